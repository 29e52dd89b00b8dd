"""What a tenant has queued, as a sum over its open problems: nothing is counted up or down.

Theory of operation: a job fixes at submit what each of its problems counts for. What is queued is
derived whenever it is asked for, so an ending of whatever kind gives its tokens back by itself, and
no failure leaves a count behind. Jobs that are being cancelled count no more.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.models import Tenant
from scheduler.core.states import LIVE

_QUEUED = text("""
SELECT
    tokens_per_problem * num_open AS tokens,
    least(deadline_at, coalesce(predicted_finish_at, deadline_at)) AS ends_at
FROM jobs
CROSS JOIN LATERAL (
    SELECT count(*) AS num_open
    FROM problems
    WHERE problems.job_id = jobs.id AND problems.finished_at IS NULL
) AS open
WHERE jobs.tenant_id = :tenant_id AND jobs.finished_at IS NULL AND jobs.state = ANY(:live)
    AND jobs.id <> ALL(:without)
ORDER BY ends_at, jobs.id
""")


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What the open problems of a live job count for, and when they should have ended."""

    tokens: float
    ends_at: datetime


def queued_jobs(
    session: Session, tenant_id: str, *, without: Collection[str] = ()
) -> list[QueuedJob]:
    """The tenant's live jobs, but for some, in the order in which they should end."""
    rows = session.execute(
        _QUEUED, {"tenant_id": tenant_id, "live": list(LIVE), "without": list(without)}
    )
    return [QueuedJob(row.tokens, row.ends_at) for row in rows]


def max_queued_tokens(session: Session, tenant_id: str) -> int | None:
    """The tenant's own limit; None where it has none."""
    return session.scalar(select(Tenant.max_queued_tokens).where(Tenant.id == tenant_id))
