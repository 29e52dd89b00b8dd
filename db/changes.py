"""Other terms for a live job: another deadline, another weight."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job, OpenaiBatchJob, Problem
from db.plans import store_plan
from scheduler.core.decisions import Admitted
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import LIVE


def hold_job(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """The tenant's job, unchanged by others until the commit; None when it is not theirs."""
    return session.scalar(
        select(Job)
        .where(Job.id == job_id, Job.tenant_id == tenant_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def is_under_way(session: Session, job: Job, now: datetime) -> bool:
    """Whether a held job is live, has open problems, and its deadline has not struck."""
    if job.state not in LIVE or job.deadline_at <= now:
        return False
    is_open = select(Problem.id).where(Problem.job_id == job.id, Problem.finished_at.is_(None))
    return session.scalar(is_open.limit(1)) is not None


def batch_of_job(session: Session, job_id: str) -> str | None:
    """The OpenAI batch whose lines the job answers; None for a job of its own."""
    return session.scalar(
        select(OpenaiBatchJob.batch_id).where(OpenaiBatchJob.job_id == job_id).limit(1)
    )


def change_job(
    session: Session,
    job: Job,
    *,
    deadline_at: datetime,
    weight: float,
    admitted: Admitted | None,
    decision: dict[str, Any] | None,
    now: datetime,
) -> None:
    """Put other terms in force for a held job, with the promise that goes with them.

    Args:
        admitted: The verdict on the new terms; None leaves the promise as it is.
        decision: The explanation of that verdict as plain JSON.
    """
    before = {"deadline_at": job.deadline_at.isoformat(), "weight": job.weight}
    promise: dict[str, Any] = {}
    if admitted is not None:
        forecast = admitted.forecast
        promise = {
            "verdict": admitted.verdict,
            "is_promised": admitted.is_promised,
            "admitted_finish_at": now + timedelta(seconds=forecast.finish_p50_s),
            "admitted_finish_p95_at": now + timedelta(seconds=forecast.finish_p95_s),
            "admitted_accuracy": forecast.accuracy,
            # What was at risk was the promise before.
            "risk_reason": None,
            "at_risk_since": None,
            "risk_finish_p95_at": None,
        }
    session.execute(
        update(Job)
        .where(Job.id == job.id)
        .values(deadline_at=deadline_at, weight=weight, **promise)
    )
    session.refresh(job)
    data = {"before": before, "deadline_at": job.deadline_at.isoformat(), "weight": job.weight}
    events.record(
        session,
        job_id=job.id,
        kind=EventKind.JOB_CHANGED,
        data=data | {"is_promised": job.is_promised, "decision": decision},
        now=now,
    )
    if admitted is not None:
        store_plan(session, job.id, admitted.plan, admitted.forecast, now=now)
        session.refresh(job)
