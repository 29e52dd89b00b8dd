"""Results of a job, in pages or as a stream, also while it runs."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from api.auth import Caller, own_job
from api.dependencies import Sessions
from api.routes.jobs import NOT_FOUND, JobId
from api.schemas.results import ResultOut, ResultPage
from api.views import result_view
from db.models import Branch, Submission
from db.results import ProblemResult, results_page
from db.session import SessionFactory, transaction
from db.submissions import submissions_between
from db.traces import branches_between

router = APIRouter(prefix="/v1/jobs", tags=["results"])

_NDJSON = "application/x-ndjson"
_STREAM_PAGE = 500
_STREAM_PAGE_WITH_PARTS = 20
"""Problems per query; with 64 branches of some kilobytes each a page stays in a few megabytes."""


@router.get(
    "/{job_id}/results",
    summary="Answers of a job",
    response_model=ResultPage,
    responses={
        200: {
            "content": {_NDJSON: {"schema": {"type": "string"}}},
            "description": "A page, or with NDJSON one result per line.",
        },
        **NOT_FOUND,
    },
)
def list_results(
    job_id: JobId,
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a page.")] = 100,
    after: Annotated[
        int, Query(ge=-1, lt=2**31, description="`next_after` of the page before.")
    ] = -1,
    branches: Annotated[bool, Query(description="Add every branch's latency trace.")] = False,
    submissions: Annotated[bool, Query(description="Add every submission's grade.")] = False,
    layout: Annotated[Literal["json", "ndjson"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header()] = "",
) -> ResultPage | StreamingResponse:
    """One page as JSON; all results as NDJSON with `format=ndjson` or that `Accept`."""
    with transaction(sessions) as session:
        own_job(session, caller, job_id)
        if layout != "ndjson" and (layout == "json" or _NDJSON not in accept):
            page, has_more = _page(session, job_id, after, limit, branches, submissions)
            return ResultPage(
                data=[view for _, view in page],
                has_more=has_more,
                next_after=str(page[-1][0].position) if has_more else None,
            )
    lines = _lines(sessions, job_id, after, branches, submissions)
    return StreamingResponse(lines, media_type=_NDJSON)


def _lines(
    sessions: SessionFactory,
    job_id: str,
    after: int,
    with_branches: bool,
    with_submissions: bool,
) -> Iterator[bytes]:
    """All results as lines; one short transaction per page, so a slow reader holds none."""
    size = _STREAM_PAGE_WITH_PARTS if with_branches or with_submissions else _STREAM_PAGE
    has_more = True
    while has_more:
        with transaction(sessions) as session:
            page, has_more = _page(session, job_id, after, size, with_branches, with_submissions)
        for result, view in page:
            yield view.model_dump_json().encode() + b"\n"
            after = result.position


def _page(
    session: Session,
    job_id: str,
    after: int,
    limit: int,
    with_branches: bool,
    with_submissions: bool,
) -> tuple[list[tuple[ProblemResult, ResultOut]], bool]:
    """Up to `limit` results behind a position, and whether more follow."""
    found = results_page(session, job_id, after=after, limit=limit + 1)
    rows = found[:limit]
    traces: dict[int, list[Branch]] = {}
    answers: dict[int, list[Submission]] = {}
    if rows:
        stretch = {"first": rows[0].position, "last": rows[-1].position}
        if with_branches:
            traces = branches_between(session, job_id, **stretch)
        if with_submissions:
            answers = submissions_between(session, job_id, **stretch)
    page = [
        (
            row,
            result_view(
                row,
                traces.get(row.position, []) if with_branches else None,
                answers.get(row.position, []) if with_submissions else None,
            ),
        )
        for row in rows
    ]
    return page, len(found) > limit
