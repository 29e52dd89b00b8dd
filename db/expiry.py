"""Closes open problems with the best of what is stored: at the deadline, or when given up."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from db.branches import COUNTED_REASONS
from scheduler.core.states import PROBLEM_TRANSITIONS, ProblemState, sources_of

# A vote is for a class of equivalent answers. The winner has the most votes; a tie goes to the
# class whose first vote finished earliest, then to the lower branch index. Branches that finished
# without an answer count in the share's denominator only.
_CLOSE_PROBLEMS = """
WITH open AS (
    SELECT id, job_id
    FROM problems
    WHERE {chosen} AND finished_at IS NULL AND state = ANY(:sources)
    ORDER BY id
    FOR NO KEY UPDATE
), finished AS (
    SELECT branches.*
    FROM branches JOIN open ON branches.problem_id = open.id AND branches.job_id = open.job_id
    WHERE branches.finish_reason = ANY(:finished)
), totals AS (
    SELECT problem_id, count(*) AS num_finished
    FROM finished
    GROUP BY problem_id
), classes AS (
    SELECT
        problem_id,
        count(*) AS votes,
        min(finished_at) AS first_at,
        (array_agg(branch_index ORDER BY finished_at, branch_index))[1] AS first_index,
        (array_agg(answer ORDER BY finished_at, branch_index))[1] AS answer,
        bool_or(is_correct) AS is_correct
    FROM finished
    WHERE vote_class IS NOT NULL
    GROUP BY problem_id, vote_class
), winners AS (
    SELECT DISTINCT ON (problem_id) *
    FROM classes
    ORDER BY problem_id, votes DESC, first_at, first_index
)
UPDATE problems
SET state = CASE WHEN num_finished IS NULL THEN :otherwise ELSE 'answered' END,
    error = CASE WHEN num_finished IS NULL THEN :error END,
    answer = winners.answer,
    vote_share = CASE WHEN num_finished > 0
        THEN coalesce(votes, 0) / num_finished::double precision END,
    is_correct = CASE WHEN num_finished IS NULL THEN NULL
        WHEN votes IS NULL AND reference_answer IS NOT NULL THEN false
        ELSE winners.is_correct END,
    degraded = num_finished IS NOT NULL,
    num_branches_finished = coalesce(num_finished, 0),
    finished_at = :now
FROM open
LEFT JOIN totals ON totals.problem_id = open.id
LEFT JOIN winners ON winners.problem_id = open.id
WHERE problems.id = open.id
RETURNING problems.state
"""

_OF_JOB = text(_CLOSE_PROBLEMS.format(chosen="job_id = :job_id"))
_OF_PART = text(_CLOSE_PROBLEMS.format(chosen="job_id = :job_id AND part = :part"))
_LOST_TOO_OFTEN = text(
    _CLOSE_PROBLEMS.format(chosen="batch_id = ANY(:batch_ids) AND num_losses >= :max_losses")
)


def expire_job_problems(
    session: Session, job_id: str, *, now: datetime, part: int | None = None
) -> dict[ProblemState, int]:
    """Close every open problem at the deadline; returns how many got each outcome.

    A problem with a finished branch is answered, degraded, with the plurality of what is stored;
    without any vote its answer is NULL and its vote share 0. Only a problem with no finished
    branch expires. Their live batches must be closed, and so locked, before.

    Args:
        part: Of the job, whose own deadline it is; None for all problems.
    """
    which = {"job_id": job_id} if part is None else {"job_id": job_id, "part": part}
    statement = _OF_JOB if part is None else _OF_PART
    return _close(session, statement, ProblemState.EXPIRED, None, which, now)


def fail_job_problems(
    session: Session, job_id: str, *, error: str, now: datetime
) -> dict[ProblemState, int]:
    """Like `expire_job_problems`, but a problem with no finished branch fails with this error."""
    return _close(session, _OF_JOB, ProblemState.FAILED, error, {"job_id": job_id}, now)


def fail_lost_problems(
    session: Session, batch_ids: Sequence[int], *, max_losses: int, now: datetime
) -> dict[ProblemState, int]:
    """Close problems of these lost batches that were lost so often; outcomes as for a failed job.

    The batches must be closed, and so locked, before.
    """
    error = (
        f"given up: {max_losses} workers stopped while they worked on it; look for a prompt that"
        " brings the engine down, and submit it again when that is repaired"
    )
    which = {"batch_ids": list(batch_ids), "max_losses": max_losses}
    return _close(session, _LOST_TOO_OFTEN, ProblemState.FAILED, error, which, now)


def _close(
    session: Session,
    statement: TextClause,
    otherwise: ProblemState,
    error: str | None,
    which: Mapping[str, object],
    now: datetime,
) -> dict[ProblemState, int]:
    sources = set(sources_of(otherwise, PROBLEM_TRANSITIONS))
    sources &= set(sources_of(ProblemState.ANSWERED, PROBLEM_TRANSITIONS))
    states = session.scalars(
        statement,
        {
            **which,
            "otherwise": otherwise.value,
            "error": error,
            "sources": sorted(sources),
            "finished": list(COUNTED_REASONS),
            "now": now,
        },
    ).all()
    return {state: states.count(state) for state in map(ProblemState, sorted(set(states)))}
