"""Gives a live job another deadline or weight, inside the caller's transaction."""

from dataclasses import replace
from datetime import datetime
from operator import attrgetter

from sqlalchemy.orm import Session

from api.deadlines import deadline_at
from api.errors import ApiError, invalid, not_found
from api.refusals import refusal
from api.schemas.changes import ChangeIn
from api.settings import ApiSettings
from db.changes import NewPromise, batch_of_job, change_job, hold_job, is_under_way
from db.models import Job, JobPart
from db.parts import parts_of
from db.snapshot import read_snapshot
from scheduler.core.decisions import Rejected
from scheduler.core.explain import explain
from scheduler.core.parts import admitted_parts, verdict_of_all, weigh_again
from scheduler.core.plan import Forecast


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
        raise _ended(job)
    weight = job.weight if change.weight is None else change.weight
    due_at, promise = job.deadline_at, None
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
        promise = _weigh(session, job, due_at, weight, best_effort, now, settings)
    change_job(session, job, deadline_at=due_at, weight=weight, promise=promise, now=now)
    return job


def _weigh(
    session: Session,
    job: Job,
    due_at: datetime,
    weight: float,
    best_effort: bool,
    now: datetime,
    settings: ApiSettings,
) -> NewPromise | None:
    """The promise that goes with the new deadline; None leaves the one there is.

    Raises:
        ApiError: An earlier deadline cannot be kept.
    """
    snapshot = read_snapshot(session, now)
    rows = {row.part: row for row in parts_of(session, [job.id]).get(job.id, ())}
    is_open = {
        view: min(rows[view.part].deadline_at, due_at) if view.part else due_at
        for view in snapshot.jobs
        if view.id == job.id and view.num_pending + view.num_in_flight
    }
    if not is_open:
        raise _ended(job)
    views = [
        replace(view, deadline_at=at, weight=weight)
        for view, at in is_open.items()
        if at != view.deadline_at
    ]
    if not views:
        return None
    views.sort(key=attrgetter("deadline_at"))
    weighed = weigh_again(snapshot, views, settings.scheduler, best_effort=best_effort)
    kept = [
        (view, _expected(rows.get(view.part, job), now))
        for view, at in is_open.items()
        if at == view.deadline_at
    ]
    verdict = verdict_of_all(views, weighed, kept)
    if isinstance(verdict, Rejected):
        if due_at >= job.deadline_at:
            return None
        refused = views[len(weighed) - 1]
        raise refusal(
            verdict,
            model=job.model,
            deadline_at=refused.deadline_at,
            now=now,
            best_effort=best_effort,
            num_due=refused.num_pending + refused.num_in_flight if rows else None,
        )
    bounds, last, admitted = weighed[-1].bounds, views[-1], admitted_parts(views, weighed)
    assert bounds is not None
    explanation = explain(bounds, last.key, admitted[last.part])
    # Parts that stay as they are keep no more than they had.
    is_promised = verdict.is_promised and (not kept or job.is_promised)
    verdict = replace(
        verdict, is_promised=is_promised, degraded=verdict.degraded or not is_promised
    )
    return NewPromise(verdict, admitted, explanation.to_dict())


def _expected(row: Job | JobPart, now: datetime) -> Forecast:
    """What the forecast in force is, from now on."""
    finish_at = row.predicted_finish_at or row.admitted_finish_at
    finish_p95_at = row.predicted_finish_p95_at or row.admitted_finish_p95_at
    accuracy = row.predicted_accuracy
    return Forecast(
        finish_p50_s=(finish_at - now).total_seconds(),
        finish_p95_s=(finish_p95_at - now).total_seconds(),
        accuracy=row.admitted_accuracy if accuracy is None else accuracy,
        row_seconds=0.0,
    )


def _ended(job: Job) -> ApiError:
    state = "at its end" if job.finished_at is None else job.state
    return ApiError(409, "job_ended", f"Cannot change {job.id}: it is {state}. Read its results.")
