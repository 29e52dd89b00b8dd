"""Changes of jobs: other terms for a live one, another try for an ended one."""

from typing import Any

import structlog
from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from api.auth import Caller
from api.body import ReceivedJson, parse_json
from api.changes import change
from api.dependencies import Sessions, Settings, utc_now
from api.retry import retry
from api.routes.jobs import NOT_FOUND, Admission, IdempotencyKey, JobId, answer_stored
from api.schemas.changes import ChangeIn, RetryIn
from api.schemas.jobs import JobOut
from api.schemas.openapi import TOO_LARGE, body_of
from api.schemas.operations import ErrorOut
from api.turns import Turn
from api.views import job_views
from db import wake
from db.admission import hold_admission
from db.session import transaction

_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_REFUSED: dict[str, Any] = {
    "model": ErrorOut,
    "description": "`deadline_infeasible`; `earliest_finish_at` says what is feasible.",
}


@router.patch(
    "/{job_id}",
    summary="Change the deadline or the weight of a live job",
    openapi_extra=body_of(ChangeIn),
    responses={
        **NOT_FOUND,
        **TOO_LARGE,
        409: {"model": ErrorOut, "description": "The job has ended, or is one of a batch."},
        422: _REFUSED,
    },
)
def change_job(
    job_id: JobId,
    body: ReceivedJson,
    received_at: Turn,
    caller: Caller,
    settings: Settings,
    sessions: Sessions,
) -> JobOut:
    """An earlier deadline is admitted anew, or refused and nothing changes; a later one is taken.

    Workers learn of it within a second.
    """
    wanted = parse_json(body, ChangeIn)
    with transaction(sessions) as session:
        hold_admission(session)
        now = utc_now()
        job = change(
            session,
            wanted,
            tenant_id=caller,
            job_id=job_id,
            received_at=received_at,
            now=now,
            settings=settings,
        )
        wake.notify(session)
        (view,) = job_views(session, [job], now)
    _log.info("job.changed", job_id=job_id)
    return view


@router.post(
    "/{job_id}/retry",
    status_code=201,
    summary="Retry what failed or expired",
    openapi_extra=body_of(RetryIn),
    responses={
        **NOT_FOUND,
        **TOO_LARGE,
        200: {"model": JobOut, "description": "A retry of this request: the job made before."},
        409: {"model": ErrorOut, "description": "The job still runs, or has nothing left."},
        422: _REFUSED,
    },
)
def retry_job(
    job_id: JobId,
    body: ReceivedJson,
    received_at: Turn,
    caller: Caller,
    settings: Settings,
    sessions: Sessions,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobOut:
    """A new job of the problems that an ended one left, with its options and a new deadline."""
    wanted = parse_json(body, RetryIn)

    def prepare(session: Session) -> Admission:
        return lambda now: retry(
            session,
            wanted,
            tenant_id=caller,
            job_id=job_id,
            idempotency_key=idempotency_key,
            received_at=received_at,
            now=now,
            settings=settings,
        )

    return answer_stored(prepare, caller=caller, sessions=sessions, response=response)
