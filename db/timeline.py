"""Timelines: when the finished branches of one job waited, prefilled and decoded, by worker.

A stretch of time is summed up in bins by Postgres, whatever the number of branches; the branches
themselves are read only for a stretch that has few. A branch passes four moments: queued, started,
first token and finished. One that never started was waiting to its end, one without a first token
was prefilling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.models import Branch, Problem

NUM_MOMENTS = 4


@dataclass(frozen=True, slots=True)
class MomentSum:
    """Branches of one worker that passed one moment within one bin.

    Attributes:
        moment: 0 queued, 1 started, 2 first token, 3 finished.
        bin: From 0.
        sum_s: Sum of the moments in seconds since the start of the stretch; one that lies before
            it counts as at the start.
    """

    worker: str
    moment: int
    bin: int
    num_branches: int
    sum_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """One finished branch between its moments. `first_token_at` is None when there was none."""

    position: int
    key: str
    branch_index: int
    worker_name: str
    num_speculative_tokens: int
    finish_reason: str
    answer: str | None
    is_correct: bool | None
    queued_at: datetime
    started_at: datetime | None
    ttft_s: float | None
    finished_at: datetime
    completion_tokens: int


_MOMENT_SUMS = text("""
WITH branch AS MATERIALIZED (
    SELECT worker_name,
        date_part('epoch', queued_at - :start_at) AS queued_s,
        date_part('epoch', coalesce(started_at, finished_at) - :start_at) AS started_s,
        date_part('epoch', queued_at - :start_at) + CASE WHEN started_at IS NOT NULL THEN ttft_s END
            AS first_token_s,
        date_part('epoch', finished_at - :start_at) AS finished_s
    FROM branches
    WHERE job_id = :job_id AND finished_at >= :start_at AND queued_at < :end_at
), passed AS (
    SELECT worker_name, moment, greatest(at_s, 0) AS offset_s
    FROM branch CROSS JOIN LATERAL (
        VALUES (0, queued_s), (1, started_s), (3, finished_s),
            (2, least(greatest(coalesce(first_token_s, finished_s), started_s), finished_s))
    ) AS passed (moment, at_s)
)
SELECT
    worker_name AS worker,
    moment,
    least(floor(offset_s / :bin_s)::integer, :num_bins - 1) AS bin,
    count(*) AS num_branches,
    sum(offset_s) AS sum_s
FROM passed
WHERE offset_s < :bin_s * :num_bins
GROUP BY 1, 2, 3
""")


def moment_sums(
    session: Session,
    job_id: str,
    *,
    start_at: datetime,
    end_at: datetime,
    num_bins: int,
) -> list[MomentSum]:
    """How many branches of the job passed each moment in each of equal bins of [start, end).

    Only branches that touch the stretch count. Every one of them was queued before its end, so the
    counts of moment 0 add up to their number.
    """
    bin_s = (end_at - start_at).total_seconds() / num_bins
    rows = session.execute(
        _MOMENT_SUMS,
        {
            "job_id": job_id,
            "start_at": start_at,
            "end_at": end_at,
            "bin_s": bin_s,
            "num_bins": num_bins,
        },
    )
    return [MomentSum(**row._mapping) for row in rows]


def spans_between(
    session: Session, job_id: str, *, start_at: datetime, end_at: datetime, limit: int
) -> Sequence[Span]:
    """Up to `limit` branches of the job that touch [start, end), in the order of their start."""
    rows = session.execute(
        select(
            Problem.position,
            Problem.key,
            Branch.branch_index,
            Branch.worker_name,
            Branch.num_speculative_tokens,
            Branch.finish_reason,
            Branch.answer,
            Branch.is_correct,
            Branch.queued_at,
            Branch.started_at,
            Branch.ttft_s,
            Branch.finished_at,
            Branch.completion_tokens,
        )
        .join(Problem, Branch.problem_id == Problem.id)
        .where(Branch.job_id == job_id, Branch.finished_at >= start_at, Branch.queued_at < end_at)
        .order_by(Branch.started_at, Problem.position, Branch.branch_index)
        .limit(limit)
    )
    return [Span(**row._mapping) for row in rows]
