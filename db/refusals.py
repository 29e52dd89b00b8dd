"""Refusals: submissions that admission turned away, kept so that attainment can be judged."""

from datetime import timedelta

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db.jobs import NewJob
from db.models import Refusal
from db.reports.hours import mark_ended
from scheduler.core.decisions import Rejected


def insert_refusal(session: Session, job: NewJob, rejected: Rejected) -> None:
    """Keep what was asked for and why it was refused; of the problems only their number."""
    earliest_s = rejected.earliest_finish_s
    session.execute(
        insert(Refusal).values(
            tenant_id=job.tenant_id,
            at=job.created_at,
            reason=rejected.reason,
            model=job.model,
            num_problems=job.num_problems,
            mean_prompt_tokens=job.mean_prompt_tokens,
            max_branches=job.max_branches,
            deadline_at=job.deadline_at,
            earliest_finish_at=(
                None if earliest_s is None else job.created_at + timedelta(seconds=earliest_s)
            ),
        )
    )
    mark_ended(session, [job.created_at])


def list_refusals(
    session: Session, tenant_id: str, *, limit: int, before: int | None = None
) -> list[Refusal]:
    """The tenant's refusals, newest first, those with an id below `before`."""
    statement = select(Refusal).where(Refusal.tenant_id == tenant_id)
    if before is not None:
        statement = statement.where(Refusal.id < before)
    return list(session.scalars(statement.order_by(Refusal.id.desc()).limit(limit)))
