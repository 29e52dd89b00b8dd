"""Lines of OpenAI batches as they end: answered by a branch, refused, or without an answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from db.branches import COUNTED_REASONS
from db.models import RefusedLine


@dataclass(frozen=True, slots=True)
class NewRefusedLine:
    """A line that gets an HTTP error instead of a problem; `position` counts lines from 0."""

    position: int
    key: str
    status: int
    error: dict[str, Any]


def insert_refused_lines(session: Session, batch_id: str, lines: Iterable[NewRefusedLine]) -> None:
    """Keep the lines that get an error instead of an answer."""
    rows = [
        {
            "batch_id": batch_id,
            "position": line.position,
            "key": line.key,
            "status": line.status,
            "error": line.error,
        }
        for line in lines
    ]
    if rows:
        session.execute(insert(RefusedLine), rows)


def refused_page(session: Session, batch_id: str, *, after: int, limit: int) -> list[RefusedLine]:
    """Up to `limit` refused lines with a position above `after`."""
    return list(
        session.scalars(
            select(RefusedLine)
            .where(RefusedLine.batch_id == batch_id, RefusedLine.position > after)
            .order_by(RefusedLine.position)
            .limit(limit)
        )
    )


def refused_counts(session: Session, batch_ids: Sequence[str]) -> dict[str, int]:
    """How many lines of each batch were refused; batches without any are left out."""
    rows = session.execute(
        select(RefusedLine.batch_id, func.count())
        .where(RefusedLine.batch_id.in_(batch_ids))
        .group_by(RefusedLine.batch_id)
    )
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True, slots=True)
class LineResult:
    """A problem that ended, with the branch that speaks for it. Durations in seconds.

    The branch is the first finisher of the class that won or, without any vote, the first
    finisher; `text` is None when no branch finished.

    Attributes:
        num_errors: Branches that ended with an error.
        completion_tokens: Of all branches that finished.
    """

    position: int
    key: str
    state: str
    answer: str | None
    vote_share: float | None
    is_correct: bool | None
    degraded: bool
    num_branches: int | None
    num_branches_finished: int
    predicted_accuracy: float | None
    error: str | None
    dispatched_at: datetime | None
    finished_at: datetime
    text: str | None
    finish_reason: str | None
    branch_index: int | None
    worker_name: str | None
    num_speculative_tokens: int | None
    queued_at: datetime | None
    started_at: datetime | None
    queue_time_s: float | None
    ttft_s: float | None
    decode_time_s: float | None
    prompt_tokens: int | None
    branch_completion_tokens: int | None
    completion_tokens: int
    num_errors: int


_LINES = text("""
WITH page AS (
    SELECT *
    FROM problems
    WHERE job_id = :job_id AND position > :after AND finished_at IS NOT NULL
        AND (state = 'answered') = :answered
    ORDER BY position
    LIMIT :limit
)
SELECT page.position, page.key, page.state, page.answer, page.vote_share, page.is_correct,
    page.degraded, page.num_branches, page.num_branches_finished, page.predicted_accuracy,
    page.error, page.dispatched_at, page.finished_at, winner.text, winner.finish_reason,
    winner.branch_index, winner.worker_name, winner.num_speculative_tokens, winner.queued_at,
    winner.started_at, winner.queue_time_s, winner.ttft_s, winner.decode_time_s,
    winner.prompt_tokens, winner.completion_tokens AS branch_completion_tokens,
    coalesce(spent.completion_tokens, 0) AS completion_tokens, spent.num_errors
FROM page
LEFT JOIN LATERAL (
    SELECT *
    FROM branches
    WHERE branches.problem_id = page.id AND branches.job_id = :job_id
        AND finish_reason = ANY(:finished)
    ORDER BY branches.answer IS NOT DISTINCT FROM page.answer DESC, finished_at, branch_index
    LIMIT 1
) AS winner ON true
CROSS JOIN LATERAL (
    SELECT sum(completion_tokens) FILTER (WHERE finish_reason = ANY(:finished))::bigint
            AS completion_tokens,
        count(*) FILTER (WHERE finish_reason = 'error') AS num_errors
    FROM branches
    WHERE branches.problem_id = page.id AND branches.job_id = :job_id
) AS spent
ORDER BY page.position
""")


def lines_page(
    session: Session, job_id: str, *, answered: bool, after: int, limit: int
) -> list[LineResult]:
    """Up to `limit` ended problems of a job, answered or not, with a position above `after`."""
    rows = session.execute(
        _LINES,
        {
            "job_id": job_id,
            "answered": answered,
            "after": after,
            "limit": limit,
            "finished": list(COUNTED_REASONS),
        },
    )
    return [LineResult(**row._mapping) for row in rows]
