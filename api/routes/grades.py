"""The grade book of a job: as a page, or streamed as NDJSON, CSV or Parquet."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api.auth import Caller, own_job
from api.dependencies import Sessions
from api.grade_book import csv_of, ndjson_of, parquet_of
from api.grade_views import book_view
from api.routes.jobs import NOT_FOUND, JobId
from api.schemas.grading import GradeOut, GradePage
from db.session import SessionFactory, transaction
from db.submissions import book_page

router = APIRouter(prefix="/v1/jobs", tags=["grades"])

_STREAM_PAGE = 20
"""Problems per query; with 1,000 submissions each a page stays in a few megabytes."""

_STREAMS = {
    "ndjson": (ndjson_of, "application/x-ndjson"),
    "csv": (csv_of, "text/csv; charset=utf-8"),
    "parquet": (parquet_of, "application/vnd.apache.parquet"),
}


@router.get(
    "/{job_id}/grades",
    summary="Grade book of a job",
    response_model=GradePage,
    responses={
        200: {
            "content": {
                kind.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
                for _, kind in _STREAMS.values()
            },
            "description": "A page, or the whole book in another format.",
        },
        **NOT_FOUND,
    },
)
def list_grades(
    job_id: JobId,
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=100, description="Problems of a page.")] = 20,
    after: Annotated[
        int, Query(ge=-1, lt=2**31, description="`next_after` of the page before.")
    ] = -1,
    layout: Annotated[
        Literal["json", "ndjson", "csv", "parquet"],
        Query(alias="format", description="All but `json` are the whole book, streamed."),
    ] = "json",
) -> GradePage | StreamingResponse:
    """One row per problem and answer: ours first, then the submissions; also while the job runs."""
    with transaction(sessions) as session:
        grading = own_job(session, caller, job_id).grading
        if layout == "json":
            rows, last = book_page(session, job_id, after=after, limit=limit)
            return GradePage(
                data=[book_view(row, grading) for row in rows],
                has_more=last is not None,
                next_after=None if last is None else str(last),
            )
    write, kind = _STREAMS[layout]
    return StreamingResponse(
        write(_pages(sessions, job_id, grading, after)),
        media_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{job_id}.{layout}"'},
    )


def _pages(
    sessions: SessionFactory, job_id: str, grading: dict[str, Any], after: int
) -> Iterator[list[GradeOut]]:
    """The whole book; one short transaction per page, so a slow reader holds none."""
    last: int | None = after
    while last is not None:
        with transaction(sessions) as session:
            rows, last = book_page(session, job_id, after=last, limit=_STREAM_PAGE)
        yield [book_view(row, grading) for row in rows]
