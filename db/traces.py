"""Branch traces as clients read them: by page of results, and speculation in one number."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import and_, select, text
from sqlalchemy.orm import Session

from db.models import Branch, Problem

_SAMPLE = 2_000
"""Branches per job behind a mean: clients ask for it twice a second while a job runs."""


def branches_between(
    session: Session, job_id: str, *, first: int, last: int
) -> dict[int, list[Branch]]:
    """Branches, by index, of the problems whose position is in [first, last], by position."""
    rows = session.execute(
        select(Problem.position, Branch)
        .join(Branch, and_(Branch.problem_id == Problem.id, Branch.job_id == Problem.job_id))
        .where(Problem.job_id == job_id, Problem.position.between(first, last))
        .order_by(Problem.position, Branch.branch_index)
    )
    found: dict[int, list[Branch]] = defaultdict(list)
    for position, branch in rows:
        found[position].append(branch)
    return found


_ACCEPTANCE = text("""
SELECT ids.id, sum(num_decoded)::double precision / sum(num_steps) AS mean_acceptance_length
FROM unnest(CAST(:job_ids AS text[])) AS ids (id)
CROSS JOIN LATERAL (
    SELECT completion_tokens - 1 AS num_decoded, num_steps
    FROM branches
    WHERE branches.job_id = ids.id AND num_steps > 0
    ORDER BY finished_at DESC
    LIMIT :sample
) AS latest
GROUP BY ids.id
""")


def mean_acceptance_lengths(session: Session, job_ids: Sequence[str]) -> dict[str, float]:
    """Tokens per target forward pass over the latest branches of each job that has any."""
    rows = session.execute(_ACCEPTANCE, {"job_ids": list(job_ids), "sample": _SAMPLE})
    return {row.id: row.mean_acceptance_length for row in rows}
