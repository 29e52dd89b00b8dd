"""Jobs: submit, list, read, follow, cancel."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Header, Query, Response
from sqlalchemy.orm import Session

from api.admission import Stored, store
from api.auth import Caller, own_job
from api.body import ReceivedBody
from api.dependencies import Sessions, Settings, utc_now
from api.errors import ApiError, invalid, not_found
from api.explanations import explanation_of
from api.problem_rows import load
from api.refusals import RefusedError
from api.schemas.explanations import ExplanationOut
from api.schemas.jobs import JobOut, JobPage
from api.schemas.operations import ErrorOut
from api.schemas.submission import openapi_request
from api.submission import read_submission
from api.turns import Turn
from api.verdicts import tell_admitted, tell_refused
from api.views import job_views
from db import jobs, wake
from db.admission import hold_admission
from db.refusals import insert_refusal
from db.session import SessionFactory, think_longer, transaction
from scheduler.core.states import JobState

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_JOB_ID = re.compile(r"job_[0-9a-f]{32}")
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such job of yours."}
}


def _known_form(job_id: str) -> str:
    """A job id that may exist; any other text is not worth a query."""
    if not _JOB_ID.fullmatch(job_id):
        raise not_found("job", job_id)
    return job_id


JobId = Annotated[str, Depends(_known_form)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A retry with the same key and the same request returns the same job.",
    ),
]


Admission = Callable[[datetime], Stored]
"""Stores a job as of an instant, under the admission's lock."""


def answer_stored(
    prepare: Callable[[Session], Admission],
    *,
    caller: str,
    sessions: SessionFactory,
    response: Response,
) -> JobOut:
    """Admit and store a job when its turn comes; of one that is refused only the refusal is kept.

    Args:
        prepare: Does what needs no turn.
    """
    try:
        with transaction(sessions) as session:
            admit = prepare(session)
            hold_admission(session)
            think_longer(session)
            # Waiting for others may have taken long: what is promised counts from here.
            now = utc_now()
            stored = admit(now)
            (view,) = job_views(session, [own_job(session, caller, stored.job_id)], now)
    except RefusedError as refused:
        with transaction(sessions) as session:
            insert_refusal(session, refused.job, refused.rejected)
        tell_refused(refused)
        raise refused.error from None
    if stored.replayed is None:
        tell_admitted(stored.job_id, caller, view.verdict)
    else:
        response.status_code = 200
        response.headers["Idempotent-Replayed"] = stored.replayed
    response.headers["Location"] = f"/v1/jobs/{stored.job_id}"
    return view


@router.post(
    "",
    status_code=201,
    summary="Submit a problem set with a deadline",
    openapi_extra=openapi_request(),
    responses={
        200: {
            "model": JobOut,
            "description": "A retry: the job that was made before. `Idempotent-Replayed` is `true`"
            " by its key, or `content`: without a key the same submission made it a moment ago.",
        },
        409: {"model": ErrorOut, "description": "The Idempotency-Key made another job."},
        413: {"model": ErrorOut, "description": "Too many bytes or problems."},
        415: {"model": ErrorOut, "description": "Neither JSON, JSON Lines nor an upload."},
        422: {
            "model": ErrorOut,
            "description": "`deadline_infeasible`; `earliest_finish_at` says what is feasible.",
        },
        429: {
            "model": ErrorOut,
            "description": "Too many requests, or `token_limit_exceeded`: too much is queued.",
        },
    },
)
def submit(
    body: ReceivedBody,
    received_at: Turn,
    caller: Caller,
    settings: Settings,
    sessions: Sessions,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """Check, admit and store a problem set. Of one that is refused only the refusal is kept."""
    submission = read_submission(body, settings)

    def prepare(session: Session) -> Admission:
        loaded = load(session, submission)
        return lambda now: store(
            session,
            loaded,
            tenant_id=caller,
            idempotency_key=idempotency_key,
            received_at=received_at,
            now=now,
            settings=settings,
        )

    return answer_stored(prepare, caller=caller, sessions=sessions, response=response)


@router.get("", summary="List jobs, newest first, or those that live by slack")
def list_jobs(
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="`next_after` of the page before.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    order: Annotated[
        Literal["newest", "slack"],
        Query(description="`slack`: only live jobs, least slack first, on one page."),
    ] = "newest",
) -> JobPage:
    """A page of your jobs."""
    now = utc_now()
    if order == "slack":
        if after is not None or state is not None:
            raise invalid("order", "Give 'after' and 'state' with the order 'newest' only.")
        with transaction(sessions) as session:
            live = jobs.jobs_by_slack(session, caller, limit=limit + 1, now=now)
            page = job_views(session, live[:limit], now)
        return JobPage(data=page, has_more=len(live) > limit, next_after=None)
    with transaction(sessions) as session:
        if after is not None and not (
            _JOB_ID.fullmatch(after) and jobs.get_job(session, caller, after)
        ):
            raise invalid("after", "No job found with the id in 'after'. Pass a job's id.")
        found = jobs.list_jobs(session, caller, limit=limit + 1, after=after, state=state)
        page = job_views(session, found[:limit], now)
    has_more = len(found) > limit
    return JobPage(data=page, has_more=has_more, next_after=page[-1].id if has_more else None)


@router.get("/{job_id}", summary="Read a job", responses=NOT_FOUND)
def read_job(job_id: JobId, caller: Caller, sessions: Sessions) -> JobOut:
    """Progress, plan, forecast and slack as they stand."""
    with transaction(sessions) as session:
        (view,) = job_views(session, [own_job(session, caller, job_id)], utc_now())
    return view


@router.get("/{job_id}/explain", summary="Why a job is run as it is", responses=NOT_FOUND)
def explain(
    job_id: JobId, caller: Caller, settings: Settings, sessions: Sessions
) -> ExplanationOut:
    """Inputs, plans weighed and the reason why one won, at the admission and now, and the history.

    What other jobs do is told in sums only.
    """
    now = utc_now()
    with transaction(sessions) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        think_longer(session)
        job = own_job(session, caller, job_id)
        return explanation_of(session, job, settings.scheduler, now=now)


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    responses={
        **NOT_FOUND,
        409: {"model": ErrorOut, "description": "The job has ended."},
    },
)
def cancel(job_id: JobId, caller: Caller, sessions: Sessions) -> JobOut:
    """Stop a live job and keep its answers; cancelling twice is no error."""
    now = utc_now()
    with transaction(sessions) as session:
        asked = jobs.request_cancel(session, caller, job_id, now=now)
        job = own_job(session, caller, job_id)
        if asked:
            wake.notify(session)
        elif job.state not in (JobState.CANCELLING, JobState.CANCELLED):
            raise ApiError(
                409, "job_ended", f"Cannot cancel {job_id}: it is {job.state}. Read its results."
            )
        (view,) = job_views(session, [job], now)
    if asked:
        _log.info("job.cancel_asked", job_id=job_id)
    return view
