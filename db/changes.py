"""Other terms for a live job: another deadline, another weight."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job, JobPart, OpenaiBatchJob, Problem
from db.plans import planned_row, promise_columns, store_plan
from scheduler.core.decisions import Admitted
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import LIVE


@dataclass(frozen=True, slots=True)
class NewPromise:
    """What a job is promised on other terms.

    Attributes:
        verdict: On the job as a whole.
        parts: What was decided for its parts with open problems, by number.
        decision: The explanation as plain JSON.
    """

    verdict: Admitted
    parts: dict[int, Admitted]
    decision: dict[str, Any]


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
    promise: NewPromise | None,
    now: datetime,
) -> None:
    """Put other terms in force for a held job, with the promise that goes with them.

    Args:
        promise: None leaves it as it is.
    """
    before = {"deadline_at": job.deadline_at.isoformat(), "weight": job.weight}
    columns: dict[str, Any] = {"deadline_at": deadline_at, "weight": weight}
    if promise is not None:
        verdict = promise.verdict
        columns |= {"verdict": verdict.verdict, "is_promised": verdict.is_promised}
        columns |= promise_columns(verdict.forecast, now) | _ON_TRACK
    session.execute(update(Job).where(Job.id == job.id).values(**columns))
    session.refresh(job)
    data = {"before": before, "deadline_at": job.deadline_at.isoformat(), "weight": job.weight}
    events.record(
        session,
        job_id=job.id,
        kind=EventKind.JOB_CHANGED,
        data=data
        | {"is_promised": job.is_promised, "decision": promise.decision if promise else None},
        now=now,
    )
    if promise is None:
        return
    if not job.is_promised:
        session.execute(update(JobPart).where(JobPart.job_id == job.id).values(**_ON_TRACK))
    for part, admitted in promise.parts.items():
        if part:
            row, is_it = planned_row(job.id, part)
            columns = promise_columns(admitted.forecast, now) | _ON_TRACK
            session.execute(update(row).where(is_it).values(**columns))
        store_plan(session, job.id, admitted.plan, admitted.forecast, now=now, part=part)
    session.refresh(job)


# What was at risk was the promise before.
_ON_TRACK = {"risk_reason": None, "at_risk_since": None, "risk_finish_p95_at": None}
