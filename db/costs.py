"""What stored branches cost; `scheduler.core.costs` says what the parts mean."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from db.branches import FINISHED, held_s, num_rejected
from db.models import Batch
from scheduler.core.costs import Cost, Fate, Spent, cost_of
from scheduler.core.states import BatchState

# A branch that failed or was lost with its batch is kept until its index runs again, and then as a
# sum on the row of the next try (`retried_*`).
_SPENT = f"""
SELECT
    grouping,
    fate,
    count(*) AS num_branches,
    sum(row_s) AS row_s,
    sum(row_s * num_rejected / nullif(completion_tokens + num_rejected, 0)) AS rejected_row_s,
    sum(completion_tokens + num_rejected) AS tokens,
    sum(num_rejected) AS rejected_tokens,
    sum(prompt_tokens) AS prompt_tokens,
    sum(retried_row_s) AS retried_row_s,
    sum(retried_tokens) AS retried_tokens
FROM (
    SELECT
        {{grouping}} AS grouping,
        CASE
            WHEN finish_reason = ANY(:finished) THEN 'counted'
            WHEN finish_reason = 'abort' AND batches.state <> 'lost' THEN 'cancelled'
            ELSE 'lost'
        END AS fate,
        {held_s("branches")} AS row_s,
        {num_rejected("branches")} AS num_rejected,
        completion_tokens,
        prompt_tokens,
        retried_row_s,
        retried_tokens
    FROM branches
    JOIN batches ON batches.id = branches.batch_id
    {{chosen}}
) AS held
GROUP BY grouping, fate
"""

_OF_JOB = text(_SPENT.format(grouping="NULL", chosen="WHERE branches.job_id = :job_id"))


def job_cost(session: Session, job_id: str) -> Cost:
    """What the job's branches that ended cost so far."""
    return _costs(session, _OF_JOB, {"job_id": job_id}).get(None) or cost_of(())


def num_lost_batches(session: Session, job_id: str) -> int:
    """Batches of the job that were lost; what ran when a worker was killed is in no row."""
    lost = (Batch.job_id == job_id, Batch.state == BatchState.LOST)
    return session.scalars(select(func.count()).select_from(Batch).where(*lost)).one()


def _costs(session: Session, statement: Any, which: Mapping[str, Any]) -> dict[Any, Cost]:
    spent = defaultdict[Any, list[Spent]](list)
    for row in session.execute(statement, {**which, "finished": list(FINISHED)}):
        fate = Fate(row.fate)
        spent[row.grouping].append(
            Spent(
                fate=fate,
                num_branches=row.num_branches,
                row_s=float(row.row_s),
                rejected_row_s=float(row.rejected_row_s or 0.0),
                tokens=int(row.tokens),
                rejected_tokens=int(row.rejected_tokens),
                prompt_tokens=int(row.prompt_tokens),
            )
        )
        spent[row.grouping].append(
            Spent(Fate.LOST, row_s=float(row.retried_row_s), tokens=int(row.retried_tokens))
        )
    return {group: cost_of(each) for group, each in spent.items()}
