"""Writes the grade book in the formats that it is exported in, page by page."""

from collections.abc import Iterable, Iterator
from typing import Any

from api import exports
from api.schemas.grading import GradeOut

COLUMNS = tuple(GradeOut.model_fields)


def ndjson_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """One JSON object per line."""
    for page in pages:
        yield "".join(f"{row.model_dump_json()}\n" for row in page).encode()


def csv_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """RFC 4180, with a header; what is null is an empty field."""
    return exports.csv_of(COLUMNS, ([row.model_dump(mode="json") for row in p] for p in pages))


def parquet_of(pages: Iterable[list[GradeOut]]) -> Iterator[bytes]:
    """Parquet in groups of some thousand rows.

    Raises:
        ApiError: 400, at once, where pyarrow is not installed.
    """
    return exports.parquet_of(_schema, ([row.model_dump() for row in page] for page in pages))


def _schema(pyarrow: Any) -> Any:
    kinds = {"confidence": pyarrow.float64(), "graded_at": pyarrow.timestamp("us", tz="UTC")}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
