"""Reports as tables: a nested number is a column with a dotted name, such as `ttft_s.p90`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from types import GenericAlias, NoneType, UnionType
from typing import Any, TypeAlias, get_args, get_type_hints

from api.exports import Row

Kind: TypeAlias = Any
"""A type of a field: a plain class, a dataclass, or a list of them."""


def columns_of(kind: Kind, prefix: str = "") -> Iterator[tuple[str, Kind]]:
    """Names and types of the columns of a row's class."""
    for name, field in _fields(kind):
        if is_dataclass(field):
            yield from columns_of(field, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def table_row(row: Any, prefix: str = "") -> Row:
    """A row by column; lists stay lists, of plain objects."""
    values: dict[str, Any] = {}
    for name, kind in _fields(type(row)):
        value = getattr(row, name)
        if is_dataclass(kind):
            values |= table_row(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            values[prefix + name] = [asdict(v) if is_dataclass(v) else v for v in value]  # type: ignore[arg-type]
        else:
            values[prefix + name] = value
    return values


def schema_of(kind: Kind, pyarrow: Any) -> Any:
    """The schema of Parquet for rows of a class."""
    return pyarrow.schema([(name, _arrow(field, pyarrow)) for name, field in columns_of(kind)])


def _arrow(kind: Kind, pyarrow: Any) -> Any:
    if isinstance(kind, GenericAlias):  # list[...]
        return pyarrow.list_(_arrow(get_args(kind)[0], pyarrow))
    if is_dataclass(kind):
        return pyarrow.struct([(name, _arrow(field, pyarrow)) for name, field in _fields(kind)])
    plain = {
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        datetime: pyarrow.timestamp("us", tz="UTC"),
    }
    return plain.get(kind, pyarrow.string())


def _fields(kind: Kind) -> Iterator[tuple[str, Kind]]:
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield field.name, _without_none(hints[field.name])


def _without_none(kind: Kind) -> Kind:
    if isinstance(kind, UnionType):
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
    return kind


@dataclass(frozen=True, slots=True)
class Change:
    """One number of a report in two ranges; null where a range has none.

    Attributes:
        group: What the rows are about; null for all, or for what is not known.
        metric: Path of the number in a row of the report, such as `tpot_s.p90`.
        difference: `after - before`.
        ratio: `after / before`; null where that is 0.
    """

    group: str | None
    metric: str
    before: float | None
    after: float | None
    difference: float | None
    ratio: float | None


def changes(before: Sequence[Any], after: Sequence[Any]) -> list[Change]:
    """Every number of two reports of one kind, by group, in the order of the later one."""
    old, new = ({row.group: dict(_numbers(row)) for row in rows} for rows in (before, after))
    found = []
    for group in new | old:
        was, now = old.get(group, {}), new.get(group, {})
        found += [_change(group, name, was.get(name), now.get(name)) for name in now | was]
    return found


def _change(group: str | None, name: str, before: float | None, after: float | None) -> Change:
    has_both = before is not None and after is not None
    return Change(
        group=group,
        metric=name,
        before=before,
        after=after,
        difference=after - before if has_both else None,  # type: ignore[operator]
        ratio=after / before if has_both and before else None,  # type: ignore[operator]
    )


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers with their paths; an item of a list goes by its first field: `widths[8].accuracy`."""
    if is_dataclass(value):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            name = getattr(item, fields(item)[0].name) if is_dataclass(item) else place
            yield from _numbers(item, f"{path}[{'null' if name is None else name}]")
    elif isinstance(value, int | float):
        yield path, float(value)
