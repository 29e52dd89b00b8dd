"""Writes rows of plain values as CSV or Parquet, page by page."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from api.errors import invalid

Row: TypeAlias = Mapping[str, Any]

_ROWS_PER_GROUP = 5000

CSV = "text/csv; charset=utf-8"
PARQUET = "application/vnd.apache.parquet"


def csv_of(columns: Iterable[str], pages: Iterable[list[Row]]) -> Iterator[bytes]:
    """RFC 4180, with a header; what is null is an empty field, and a list is JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    for page in pages:
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in page)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list) else value


def parquet_of(schema_of: Callable[[Any], Any], pages: Iterable[list[Row]]) -> Iterator[bytes]:
    """Parquet in groups of some thousand rows.

    Args:
        schema_of: Makes the schema, given the module pyarrow.

    Raises:
        ApiError: 400, at once, where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise invalid(
            "format",
            "This server cannot write Parquet: it lacks pyarrow. Install slackline[parquet] there,"
            " or ask for 'format=csv'.",
            code="parquet_unavailable",
        ) from None
    return _groups(schema_of(pyarrow), pages, pyarrow)


def _groups(schema: Any, pages: Iterable[list[Row]], pyarrow: Any) -> Iterator[bytes]:
    sink = _Sink()
    rows: list[Row] = []
    with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
        for page in pages:
            rows += page
            if len(rows) >= _ROWS_PER_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
                yield sink.take()
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file to write to whose bytes are taken away as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._num_bytes

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._num_bytes += len(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
