"""Branches: finished samples with their latency traces, written by the worker that ran them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from db.leases import HELD_BATCH
from db.records import records
from db.reports.facts import held_s, num_rejected
from db.reports.hours import mark_ended

COUNTED_REASONS = ("stop", "length")
"""Finish reasons of branches that count; the others ended without an outcome of their own."""


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One finished branch. Durations are in seconds; job, batch and worker come from the lease.

    Attributes:
        vote_class: Class of equivalent answers, numbered by first finisher; None without answer.
        is_correct: Grade of the class; None without a reference answer.
        queue_time_s: From submission to leaving the engine's queue.
        ttft_s: From submission to the first token; None when there was none.
        decode_time_s: From the first token to the last; None when there was none.
        num_rows: Rows of the engine in use when it ended, its own included; None if not known.
    """

    problem_id: int
    branch_index: int
    num_speculative_tokens: int
    finish_reason: str
    text: str
    answer: str | None
    vote_class: int | None
    is_correct: bool | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime
    queue_time_s: float
    ttft_s: float | None
    decode_time_s: float | None
    prompt_tokens: int
    completion_tokens: int
    num_steps: int
    drafted_by_position: Sequence[int]
    accepted_by_position: Sequence[int]
    error: str | None = None
    num_rows: int | None = None


def insert_branches(
    session: Session, *, batch_id: int, epoch: int, rows: Sequence[BranchRow]
) -> bool:
    """Store finished branches; writes nothing and returns False when the lease is lost.

    Each (problem, branch index) has one row. A branch that finished is never replaced, so it
    counts once however often it is sent. The row of an aborted or failed branch is kept for its
    cost until the index runs again: the next row of that index replaces it, and carries its cost.
    """
    ended = _write(session, _INSERT_HELD, rows, batch_id=batch_id, epoch=epoch)
    if ended is None:
        return False
    mark_ended(session, ended)
    return True


def write_off_branches(
    session: Session, *, batch_id: int, rows: Sequence[BranchRow]
) -> list[BranchRow]:
    """Keep the cost of branches whose batch was lost, cancelled or expired before they ended.

    They count in no vote, finished or not. Where their index has finished in another batch by now,
    the row of that try carries their cost.

    Returns:
        The rows as they were stored.
    """
    late = [
        replace(row, finish_reason="abort", answer=None, vote_class=None, is_correct=None)
        for row in rows
    ]
    ended = _write(session, _INSERT_LATE, late, batch_id=batch_id) if late else None
    if ended is not None:
        for row in late:
            ended.update(session.scalars(_ADD_TRY, _try(row) | {"batch_id": batch_id}))
        # Once for all: writers that hold some hours and want more could wait for each other.
        mark_ended(session, ended)
    return late


def _write(
    session: Session, statement: TextClause, rows: Sequence[BranchRow], **batch: int
) -> set[datetime] | None:
    """Store rows of the batch that the statement finds.

    Returns:
        When what it changed had ended, for `mark_ended`; None when there is no such batch.
    """
    found = (
        session.connection().execute(statement, {"rows": records(rows), **batch}).scalars().all()
    )
    if not found:
        return None
    # The cost of a branch that is replaced moves to the hour of its next try.
    return {at for at in found if at is not None} | {row.finished_at for row in rows}


_COLUMNS = tuple(field.name for field in fields(BranchRow))
_REPLACED = ("batch_id", "worker_name", *_COLUMNS[2:])
_TRIES = {
    "retried_row_s": held_s("branches"),
    "retried_tokens": f"branches.completion_tokens + {num_rejected('branches')}",
}


def _insert(batch: str) -> TextClause:
    """The statement that stores rows of a batch.

    For each row it returns when the branch that it replaces had ended, or NULL; nothing where there
    is no batch.

    Args:
        batch: SQL that finds it.
    """
    replaced = [f"{name} = excluded.{name}" for name in _REPLACED]
    # One that is sent twice is the same try.
    former = [
        f"{name} = branches.{name} + CASE WHEN branches.queued_at = excluded.queued_at THEN 0"
        f" ELSE {cost} END"
        for name, cost in _TRIES.items()
    ]
    return text(f"""
WITH batch AS ({batch}), new AS MATERIALIZED (
    SELECT * FROM json_populate_recordset(CAST(NULL AS branches), CAST(:rows AS json))
), written AS (
    INSERT INTO branches (batch_id, job_id, worker_name, {", ".join(_COLUMNS)})
    SELECT batch.id, batch.job_id, batch.worker_name, {", ".join(f"new.{c}" for c in _COLUMNS)}
    FROM batch CROSS JOIN new
    ON CONFLICT (problem_id, job_id, branch_index) DO UPDATE SET {", ".join(replaced + former)}
    WHERE branches.finish_reason IN ('abort', 'error')
)
SELECT branches.finished_at
FROM batch
LEFT JOIN new ON true
LEFT JOIN branches ON branches.problem_id = new.problem_id AND branches.job_id = batch.job_id
    AND branches.branch_index = new.branch_index
    AND branches.finish_reason IN ('abort', 'error')
""")


_INSERT_HELD = _insert(HELD_BATCH)
_INSERT_LATE = _insert("SELECT id, job_id, worker_name FROM batches WHERE id = :batch_id")

_ADD_TRY = text("""
UPDATE branches
SET retried_row_s = retried_row_s + :row_s, retried_tokens = retried_tokens + :tokens
WHERE problem_id = :problem_id
    AND job_id = (SELECT job_id FROM batches WHERE id = :batch_id)
    AND branch_index = :branch_index
    AND finish_reason = ANY(:finished)
    AND queued_at <> :queued_at
RETURNING finished_at
""")


def _try(row: BranchRow) -> dict[str, object]:
    """A try beside the row of another one; as `held_s` and `num_rejected` have it."""
    held = row.finished_at - (row.started_at or row.finished_at)
    rejected = sum(row.drafted_by_position) - sum(row.accepted_by_position)
    return {
        "problem_id": row.problem_id,
        "branch_index": row.branch_index,
        "queued_at": row.queued_at,
        "finished": list(COUNTED_REASONS),
        "row_s": max(0.0, held.total_seconds()),
        "tokens": row.completion_tokens + rejected,
    }
