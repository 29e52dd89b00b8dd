"""Makes a new job of what an ended one left without an answer, inside the caller's transaction."""

import hashlib
from datetime import datetime

from sqlalchemy.orm import Session

from api.admission import Stored, admit, check_model
from api.auth import own_job
from api.deadlines import deadline_at
from api.errors import ApiError
from api.replays import BY_KEY, replayed_by_key
from api.schemas.changes import RetryIn
from api.settings import ApiSettings
from db import jobs, wake
from db.models import Job
from db.retries import copy_left, count_left
from db.snapshot import read_snapshot
from scheduler.core.branch_options import BranchOptions
from scheduler.core.grading import Grading


def retry(
    session: Session,
    wanted: RetryIn,
    *,
    tenant_id: str,
    job_id: str,
    idempotency_key: str | None,
    received_at: datetime,
    now: datetime,
    settings: ApiSettings,
) -> Stored:
    """Store the new job, or find the one that the same request stored before.

    Args:
        session: Holds the admission; see `hold_admission`.
        received_at: When the request had arrived, from which a relative deadline counts.
        now: When its turn came, from which the forecast counts.

    Raises:
        ApiError: 400 for a deadline that cannot be, 404, 409 for a job that still runs, that has
            nothing left, or a reused key, 429 for more tokens than the tenant may have queued.
        RefusedError: Admission refuses, which leaves no job.
    """
    sha256 = hashlib.sha256(f"retry {job_id} {wanted.model_dump_json()}".encode()).hexdigest()
    found = replayed_by_key(session, tenant_id=tenant_id, key=idempotency_key, sha256=sha256)
    if found is not None:
        return Stored(found, BY_KEY)
    source = own_job(session, tenant_id, job_id)
    if source.finished_at is None:
        raise ApiError(
            409,
            "job_not_ended",
            f"Cannot retry {job_id}: it is {source.state}. Wait for its end, or cancel it first.",
        )
    num_left = count_left(session, job_id, degraded=wanted.degraded)
    if not num_left:
        raise ApiError(
            409,
            "nothing_to_retry",
            f"No problem of {job_id} failed or expired."
            + ("" if wanted.degraded else " With 'degraded' those cut short are taken up, too."),
        )
    due_at = deadline_at(wanted.deadline, received_at, settings)
    check_model(session, source.model)
    job = _again(source, wanted, num_left, due_at, now)
    snapshot = read_snapshot(session, now)
    admit(
        session,
        job,
        snapshot,
        settings,
        best_effort=wanted.best_effort,
        idempotency_key=idempotency_key,
        sha256=sha256,
    )
    copy_left(session, source_id=job_id, job_id=job.id, degraded=wanted.degraded)
    wake.notify(session)
    return Stored(job.id)


def _again(
    source: Job, wanted: RetryIn, num_problems: int, due_at: datetime, now: datetime
) -> jobs.NewJob:
    return jobs.NewJob(
        id=jobs.new_job_id(),
        tenant_id=source.tenant_id,
        name=source.name if wanted.name is None else wanted.name,
        model=source.model,
        family=source.family,
        deadline_at=due_at,
        weight=source.weight,
        max_branches=source.max_branches,
        max_tokens=source.max_tokens,
        min_accuracy=source.min_accuracy,
        temperature=source.temperature,
        top_p=source.top_p,
        num_problems=num_problems,
        mean_prompt_tokens=source.mean_prompt_tokens,
        created_at=now,
        grading=Grading.from_dict(source.grading),
        solve=source.solve,
        branch_options=BranchOptions.from_dict(source.branch_options),
        retry_of=source.id,
    )
