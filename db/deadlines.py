"""What happens at a deadline: batches end, and problems get the best of what is stored."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import events
from db.batches import cancel_job_batches
from db.expiry import expire_job_problems
from db.leases import lock_batches
from db.models import Batch, Job, JobPart
from db.plans import part_named, planned_row
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import LIVE


def expire_jobs(session: Session, job_ids: Sequence[str], *, now: datetime) -> list[str]:
    """Close batches and problems of live jobs whose deadline passed; returns those jobs' ids.

    The jobs themselves end with `db.endings.finish_jobs`, like all others. A job whose deadline a
    client put off meanwhile is left alone. Its batches are locked before it, as by those who claim
    them.
    """
    is_due = (Job.state.in_(LIVE), Job.deadline_at <= now)
    struck = []
    for job_id in session.scalars(
        select(Job.id).where(Job.id.in_(job_ids), *is_due).order_by(Job.id)
    ).all():
        lock_batches(session, Batch.job_id == job_id, Batch.finished_at.is_(None))
        held = select(Job.id).where(Job.id == job_id, *is_due).with_for_update(key_share=True)
        if session.scalar(held) is None:
            continue
        struck.append(job_id)
        _strike(session, job_id, None, now)
    return struck


def expire_part(session: Session, job_id: str, part: int, *, now: datetime) -> bool:
    """Close batches and problems of a live job's part at its own deadline; False before that."""
    of_part = (Batch.job_id == job_id, Batch.part == part)
    lock_batches(session, *of_part, Batch.finished_at.is_(None))
    _, is_it = planned_row(job_id, part)
    is_due = (Job.state.in_(LIVE), JobPart.deadline_at <= now)
    held = select(Job.id).join(JobPart, JobPart.job_id == Job.id).where(is_it, *is_due)
    if session.scalar(held.with_for_update(key_share=True, of=Job)) is None:
        return False
    _strike(session, job_id, part, now)
    return True


def _strike(session: Session, job_id: str, part: int | None, now: datetime) -> None:
    """Close batches and problems at their deadline; the batches are locked, and the job held."""
    cancel_job_batches(session, job_id, now=now, part=part)
    outcomes = expire_job_problems(session, job_id, now=now, part=part)
    if outcomes:
        closed = {state.value: count for state, count in outcomes.items()}
        events.record(
            session,
            job_id=job_id,
            kind=EventKind.DEADLINE_STRUCK,
            data=closed | part_named(session, job_id, part or 0),
            now=now,
        )
