"""Writes the grade book in the formats that it is exported in, page by page."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from api.errors import invalid
from api.schemas.grading import GradeOut

COLUMNS = tuple(GradeOut.model_fields)
_ROWS_PER_GROUP = 5000


def ndjson_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """One JSON object per line."""
    for page in pages:
        yield "".join(f"{row.model_dump_json()}\n" for row in page).encode()


def csv_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """RFC 4180, with a header; what is null is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for page in pages:
        writer.writerows(row.model_dump(mode="json") for row in page)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def parquet_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """Parquet in groups of some thousand rows.

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
    return _groups(pages, pyarrow)


def _groups(pages: Iterable[list[GradeOut]], pyarrow: Any) -> Iterator[bytes]:
    kinds = {"confidence": pyarrow.float64(), "graded_at": pyarrow.timestamp("us", tz="UTC")}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
    sink = _Sink()
    rows: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
        for page in pages:
            rows += [row.model_dump() for row in page]
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
