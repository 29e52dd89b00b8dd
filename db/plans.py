"""Plans: which split of a job is in force, and what it is expected to bring."""

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job
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
) -> bool:
    """Put a split in force with its forecast; False when the job is no longer live.

    An event with both splits is recorded only when they differ, so that refreshed forecasts do not
    flood the history.
    """
    columns = plan_columns(plan)
    before = session.execute(
        select(*(getattr(Job, name) for name in columns))
        .where(Job.id == job_id, Job.state.in_(LIVE))
        .with_for_update(key_share=True)
    ).first()
    if before is None:
        return False
    session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(LIVE))
        .values(**columns, **forecast_columns(forecast, now))
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
            },
            now=now,
        )
    return True


def plan_columns(plan: Plan) -> dict[str, int | float]:
    """What a job's row and the event of a plan hold of it."""
    return {
        "num_branches": plan.num_branches,
        "num_speculative_tokens": plan.num_speculative_tokens,
        "plan_max_tokens": plan.max_tokens,
        "wave_size": plan.wave_size,
        "stop_gain": plan.stop_gain,
        "plan_max_branches": plan.max_branches,
    }


def forecast_columns(forecast: Forecast, now: datetime) -> dict[str, datetime | float]:
    """A forecast that was made now, as columns of `Job`."""
    return {
        "predicted_finish_at": now + timedelta(seconds=forecast.finish_p50_s),
        "predicted_finish_p95_at": now + timedelta(seconds=forecast.finish_p95_s),
        "predicted_accuracy": forecast.accuracy,
    }
