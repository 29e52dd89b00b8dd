"""Plans: which split of a job is in force, and what it is expected to bring."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job, JobPart
from scheduler.core.decisions import PlanReason
from scheduler.core.event_kinds import EventKind
from scheduler.core.plan import Forecast, Plan
from scheduler.core.states import LIVE


def store_plan(
    session: Session,
    job_id: str,
    plan: Plan,
    forecast: Forecast,
    *,
    now: datetime,
    reason: PlanReason | None = None,
    part: int = 0,
) -> bool:
    """Put a split in force with its forecast; False when the job is no longer live.

    An event with both splits is recorded only when they differ, so that refreshed forecasts do not
    flood the history.

    Args:
        part: Of the job, whose problems have a deadline of their own; 0 for all others.
    """
    held = select(Job.id).where(Job.id == job_id, Job.state.in_(LIVE))
    if session.scalar(held.with_for_update(key_share=True)) is None:
        return False
    columns = plan_columns(plan)
    planned, is_it = planned_row(job_id, part)
    before = session.execute(select(*(getattr(planned, n) for n in columns)).where(is_it)).one()
    session.execute(
        update(planned).where(is_it).values(**columns, **forecast_columns(forecast, now))
    )
    if tuple(before) != tuple(columns.values()):
        events.record(
            session,
            job_id=job_id,
            kind=EventKind.PLAN_STORED,
            data={
                **columns,
                "finish_p50_s": forecast.finish_p50_s,
                "finish_p95_s": forecast.finish_p95_s,
                "accuracy": forecast.accuracy,
                "reason": reason,
                "before": None if before.num_branches is None else before._asdict(),
                **part_named(session, job_id, part),
            },
            now=now,
        )
    return True


def planned_row(job_id: str, part: int) -> tuple[type[Job] | type[JobPart], ColumnElement[bool]]:
    """The row that has the plan of a part of a job, as its table and a condition."""
    if part:
        return JobPart, and_(JobPart.job_id == job_id, JobPart.part == part)
    return Job, Job.id == job_id


def part_named(session: Session, job_id: str, part: int) -> dict[str, str]:
    """What an event says of a part with a deadline of its own; nothing for the others."""
    if not part:
        return {}
    _, is_it = planned_row(job_id, part)
    due = select(func.least(JobPart.deadline_at, Job.deadline_at)).join(
        Job, Job.id == JobPart.job_id
    )
    due_at = session.scalars(due.where(is_it)).one()
    return {"part_deadline_at": due_at.isoformat()}


def plan_columns(plan: Plan) -> dict[str, int | float]:
    """What the row and the event of a plan hold of it."""
    return {
        "num_branches": plan.num_branches,
        "num_speculative_tokens": plan.num_speculative_tokens,
        "plan_max_tokens": plan.max_tokens,
        "wave_size": plan.wave_size,
        "stop_gain": plan.stop_gain,
        "plan_max_branches": plan.max_branches,
    }


def promise_columns(forecast: Forecast, now: datetime) -> dict[str, datetime | float]:
    """The forecast on which an admission of now rests, as columns."""
    columns = forecast_columns(forecast, now)
    return {name.replace("predicted", "admitted"): value for name, value in columns.items()}


def forecast_columns(forecast: Forecast, now: datetime) -> dict[str, datetime | float]:
    """A forecast that was made now, as columns."""
    return {
        "predicted_finish_at": now + timedelta(seconds=forecast.finish_p50_s),
        "predicted_finish_p95_at": now + timedelta(seconds=forecast.finish_p95_s),
        "predicted_accuracy": forecast.accuracy,
    }
