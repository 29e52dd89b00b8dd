"""Adds up what a report asks for: which part of a range comes from where, and by which group."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from typing import NamedTuple, TypeAlias

from sqlalchemy import text
from sqlalchemy.orm import Session

from db.reports.facts import BRANCH_DIMENSIONS, BRANCH_KEY, COLUMNS, DIMENSIONS
from db.reports.groups import GroupBy, Grouping, Key, order
from db.reports.hours import extent, stale_between
from db.reports.periods import Every, Stretch, stretches
from db.reports.sums import RECORD_SQL, Sums
from db.session import BINARY


def _of_two(first: str, second: str) -> str:
    return f"{first}+{second}"


DETAILS: dict[str, tuple[str, ...]] = {
    "all": DIMENSIONS,
    "tenant": ("tenant_id",),
    **{name: ("tenant_id", name) for name in DIMENSIONS[1:]},
}
"""Dimensions that rollups are kept by; the fewer, the fewer rows a report reads."""

DETAILS_OF_DAYS: dict[str, tuple[str, ...]] = {
    _of_two(*pair): ("tenant_id", *pair) for pair in combinations(DIMENSIONS[1:], 2)
}
"""Kept of days besides: for a filter and a group, or for two filters."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a report is about: what ended in [since, until), of one tenant or of all.

    Attributes:
        filters: Values of `DIMENSIONS` that it is restricted to.
    """

    since: datetime
    until: datetime
    tenant_id: str | None = None
    filters: Mapping[str, str] = field(default_factory=dict)


class Cell(NamedTuple):
    """Sums of one hour, or day, and one combination of dimensions."""

    at: datetime
    dimensions: tuple[str, ...]
    sums: bytes


class Where(NamedTuple):
    """A condition on dimensions."""

    sql: str
    parameters: dict[str, str]

    @classmethod
    def of(cls, selection: Selection) -> "Where":
        """The condition of a selection."""
        wanted = dict(selection.filters)
        if selection.tenant_id is not None:
            wanted["tenant_id"] = selection.tenant_id
        return cls(" AND ".join(["true", *(f"{name} = :{name}" for name in wanted)]), wanted)


FromRows: TypeAlias = Callable[[Session, datetime, datetime, Where], Iterable[Cell]]


class Subject(NamedTuple):
    """What a report sums up, and how rows of a stretch of time are turned into cells of hours."""

    name: str
    from_rows: FromRows


def summed(facts: str) -> FromRows:
    """Cells by one statement, whose rows are weights by hour, dimensions, part and bin."""
    return _cells_of(f"SELECT hour, {COLUMNS}, {RECORD_SQL} AS sums FROM ({facts}) AS facts")


def summed_of_branches(facts: str) -> FromRows:
    """Cells by one statement, whose rows are weights by `BRANCH_KEY`, part and bin.

    Dimensions are looked up when a batch has become one row: sorting by texts is most of the work.
    """
    return _cells_of(f"""
        SELECT hour, {BRANCH_DIMENSIONS}, sums
        FROM (
            SELECT {BRANCH_KEY}, string_agg({RECORD_SQL}, '') AS sums
            FROM ({facts}) AS facts
            GROUP BY {BRANCH_KEY}
        ) AS spans
        JOIN batches ON batches.id = spans.batch_id
        JOIN jobs ON jobs.id = batches.job_id
        JOIN workers ON workers.name = batches.worker_name
    """)


def _cells_of(parts: str) -> FromRows:
    statement = (
        f"SELECT hour, {COLUMNS}, string_agg(sums, '') AS sums"
        f" FROM ({parts}) AS parts WHERE {{where}} GROUP BY hour, {COLUMNS}"
    )

    def cells(session: Session, since: datetime, until: datetime, where: Where) -> Iterator[Cell]:
        parameters = {"since": since, "until": until, **where.parameters}
        asked = text(statement.format(where=where.sql))
        found = session.execute(asked, parameters, execution_options=BINARY)
        for hour, *dimensions, sums in found:
            yield Cell(hour, tuple(dimensions), sums)

    return cells


def read(
    session: Session,
    subject: Subject,
    selection: Selection,
    group_by: GroupBy | None,
    every: Every | None,
) -> dict[Key, Sums]:
    """Sums of a selection by group and bucket, in order; what has none is absent.

    The transaction must see one moment (REPEATABLE READ), lest an hour is summed up in between.
    """
    grouping = Grouping.of(group_by, every)
    where = Where.of(selection)
    found: dict[Key, list[bytes]] = {}
    for stretch in _stretches(session, selection, grouping.bucket):
        if stretch.rollups is None:
            for cell in subject.from_rows(session, stretch.since, stretch.until, where):
                found.setdefault(grouping.key_of(cell.at, cell.dimensions), []).append(cell.sums)
        else:
            for key, sums in _from_rollups(session, subject, stretch, where, grouping):
                found.setdefault(key, []).append(sums)
    return {key: Sums(b"".join(found[key])) for key in sorted(found, key=order)}


def _stretches(session: Session, selection: Selection, bucket: Every | None) -> list[Stretch]:
    whole = extent(session)
    if whole is None:
        return []
    since, until = max(selection.since, whole[0]), min(selection.until, whole[1])
    return stretches(since, until, stale_between(session, since, until), finest=bucket)


def _from_rollups(
    session: Session, subject: Subject, stretch: Stretch, where: Where, grouping: Grouping
) -> Iterator[tuple[Key, bytes]]:
    wanted = {*where.parameters, *filter(None, [grouping.dimension])} - {"tenant_id"}
    detail = _detail_with([name for name in DIMENSIONS if name in wanted], stretch.rollups)
    bucket = "NULL" if grouping.bucket is None else f"date_trunc('{grouping.bucket}', at, 'UTC')"
    statement = f"""
        SELECT {grouping.dimension or "NULL"} AS dimension, {bucket} AS bucket,
            string_agg(sums, '') AS sums
        FROM rollups
        WHERE subject = :subject AND detail = :detail AND period = :period
            AND at >= :since AND at < :until AND {where.sql}
        GROUP BY 1, 2
    """
    parameters = {
        "subject": subject.name,
        "detail": detail,
        "period": stretch.rollups,
        "since": stretch.since,
        "until": stretch.until,
        **where.parameters,
    }
    for row in session.execute(text(statement), parameters, execution_options=BINARY):
        yield grouping.key(row.dimension, row.bucket), row.sums


def _detail_with(dimensions: list[str], period: Every | None) -> str:
    """The shortest detail that keeps these dimensions besides the tenant."""
    if len(dimensions) == 2 and period is Every.DAY:
        return _of_two(*dimensions)
    return "all" if len(dimensions) > 1 else next(iter(dimensions), "tenant")


def seconds(selection: Selection, group_by: GroupBy | None, every: Every | None, key: Key) -> float:
    """How much of the selected range lies in the bucket of a row."""
    bucket = Grouping.of(group_by, every).bucket
    begin, end = selection.since, selection.until
    if bucket is not None and key.at is not None:
        begin, end = max(begin, key.at), min(end, key.at + bucket.length)
    return (end - begin).total_seconds()
