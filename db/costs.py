"""What the stored branches of a job cost; `scheduler.core.costs` says what the parts mean."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from db.models import Batch
from db.reports.facts import SPENT, SPENT_SUMS
from scheduler.core.costs import Cost, Fate, Spent, cost_of
from scheduler.core.states import BatchState

_SPENT = text(f"""
SELECT fate, {SPENT_SUMS}
FROM (
    SELECT {SPENT}
    FROM branches
    JOIN batches ON batches.id = branches.batch_id
    WHERE branches.job_id = :job_id
) AS held
GROUP BY fate
""")


def job_cost(session: Session, job_id: str) -> Cost:
    """What the job's branches that ended cost so far."""
    rows = session.execute(_SPENT, {"job_id": job_id})
    return cost_of(spent for row in rows for spent in _spent(row))


def num_lost_batches(session: Session, job_id: str) -> int:
    """Batches of the job that were lost; what ran when a worker was killed is in no row."""
    lost = (Batch.job_id == job_id, Batch.state == BatchState.LOST)
    return session.scalars(select(func.count()).select_from(Batch).where(*lost)).one()


def _spent(row: Row[Any]) -> Iterator[Spent]:
    yield Spent(
        fate=Fate(row.fate),
        num_branches=row.num_branches,
        row_s=float(row.row_s),
        rejected_row_s=float(row.rejected_row_s or 0.0),
        tokens=int(row.tokens),
        rejected_tokens=int(row.rejected_tokens),
        prompt_tokens=int(row.prompt_tokens),
    )
    yield Spent(Fate.LOST, row_s=float(row.retried_row_s), tokens=int(row.retried_tokens))
