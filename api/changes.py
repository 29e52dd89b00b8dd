"""Gives a live job another deadline or weight, inside the caller's transaction."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from api.deadlines import deadline_at
from api.errors import ApiError, invalid, not_found
from api.refusals import refusal
from api.schemas.changes import ChangeIn
from api.settings import ApiSettings
from db.changes import batch_of_job, change_job, hold_job, is_under_way
from db.models import Job
from db.snapshot import read_snapshot
from scheduler.core.admission import weigh_again
from scheduler.core.decisions import Admitted, Rejected
from scheduler.core.explain import explain


def change(
    session: Session,
    change: ChangeIn,
    *,
    tenant_id: str,
    job_id: str,
    received_at: datetime,
    now: datetime,
    settings: ApiSettings,
) -> Job:
    """Put the new terms in force, or refuse them and change nothing.

    A later deadline is never refused: it takes nothing from anybody. An earlier one is admitted as
    a submission is.

    Args:
        session: Holds the admission; see `hold_admission`.
        received_at: When the request had arrived, from which a relative deadline counts.
        now: When its turn came, from which the forecast counts.

    Raises:
        ApiError: 400 for terms that cannot be, 404, 409 for a job that has ended or is a batch's,
            422 `deadline_infeasible`, 503 while nobody serves the model.
    """
    if change.deadline is None and change.weight is None:
        raise invalid(
            "deadline",
            "Nothing to change: give a 'deadline', a 'weight' or both.",
            code="missing_required_parameter",
        )
    job = hold_job(session, tenant_id, job_id)
    if job is None:
        raise not_found("job", job_id)
    if not is_under_way(session, job, now):
        raise ApiError(
            409, "job_ended", f"Cannot change {job_id}: it is {_state(job)}. Read its results."
        )
    weight = job.weight if change.weight is None else change.weight
    due_at, admitted, decision = job.deadline_at, None, None
    if change.deadline is not None:
        batch_id = batch_of_job(session, job_id)
        if batch_id is not None:
            raise ApiError(
                409,
                "job_of_batch",
                f"Cannot change the deadline of {job_id}: it answers lines of {batch_id}, whose"
                " completion window was promised. Cancel the batch and create another one.",
                param="deadline",
            )
        due_at = deadline_at(change.deadline, received_at, settings)
        best_effort = change.best_effort or not job.is_promised
        admitted, decision = _weigh(session, job, due_at, weight, best_effort, now, settings)
    change_job(
        session,
        job,
        deadline_at=due_at,
        weight=weight,
        admitted=admitted,
        decision=decision,
        now=now,
    )
    return job


def _weigh(
    session: Session,
    job: Job,
    due_at: datetime,
    weight: float,
    best_effort: bool,
    now: datetime,
    settings: ApiSettings,
) -> tuple[Admitted | None, dict[str, Any] | None]:
    """The promise that goes with the new deadline, and why; None leaves the one there is.

    Raises:
        ApiError: An earlier deadline cannot be kept.
    """
    snapshot = read_snapshot(session, now)
    view = next(view for view in snapshot.jobs if view.id == job.id)
    view = replace(view, deadline_at=due_at, weight=weight)
    weighed = weigh_again(snapshot, view, settings.scheduler, best_effort=best_effort)
    verdict = weighed.verdict
    if isinstance(verdict, Rejected):
        if due_at >= job.deadline_at:
            return None, None
        raise refusal(
            verdict, model=job.model, deadline_at=due_at, now=now, best_effort=best_effort
        )
    assert weighed.bounds is not None
    explanation = explain(weighed.bounds, job.id, verdict.plan, verdict.forecast)
    return verdict, explanation.to_dict()


def _state(job: Job) -> str:
    return "at its end" if job.finished_at is None else job.state
