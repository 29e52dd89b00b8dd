"""Branches: finished samples with their latency traces, written by the worker that ran them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

from sqlalchemy import ColumnElement, literal_column, or_, text
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from db.leases import HeldBatch, hold_batch
from db.models import Batch, Branch
from db.reports.hours import mark_ended

FINISHED = ("stop", "length")
"""Finish reasons of branches that count; the others ended without an outcome of their own."""

_REPLACEABLE = ("abort", "error")


def held_s(table: str) -> str:
    """SQL for the seconds that a branch held a row; 0 for one that never left the queue."""
    return f"greatest(0, extract(epoch FROM {table}.finished_at - {table}.started_at))"


def num_rejected(table: str) -> str:
    """SQL for the draft tokens of a branch that were rejected."""
    return (
        f"(SELECT coalesce(sum(drafted - accepted), 0) FROM unnest({table}.drafted_by_position,"
        f" {table}.accepted_by_position) AS by_position (drafted, accepted))"
    )


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
    held = hold_batch(session, batch_id=batch_id, epoch=epoch)
    if held is None:
        return False
    _write(session, rows, HeldBatch(held.job_id, held.worker_name), batch_id)
    return True


def write_off_branches(session: Session, *, batch_id: int, rows: Sequence[BranchRow]) -> None:
    """Keep the cost of branches whose batch was lost, cancelled or expired before they ended.

    They count in no vote, finished or not. Where their index has finished in another batch by now,
    the row of that try carries their cost.
    """
    batch = session.get(Batch, batch_id)
    if batch is None or not rows:
        return
    late = [
        replace(row, finish_reason="abort", answer=None, vote_class=None, is_correct=None)
        for row in rows
    ]
    _write(session, late, HeldBatch(batch.job_id, batch.worker_name), batch_id)
    session.connection().execute(_ADD_TRY, [_try(row) for row in late])


def _write(session: Session, rows: Sequence[BranchRow], batch: HeldBatch, batch_id: int) -> None:
    if rows:
        lease = {"batch_id": batch_id, "job_id": batch.job_id, "worker_name": batch.worker_name}
        # On the connection: the session's bulk insert costs three times the time.
        session.connection().execute(_upsert(), [_columns(row) | lease for row in rows])
        mark_ended(session, {row.finished_at for row in rows})


def _upsert() -> Insert:
    statement = insert(Branch)
    tries = {
        "retried_row_s": held_s("branches"),
        "retried_tokens": f"branches.completion_tokens + {num_rejected('branches')}",
    }
    # One that is sent twice is the same try.
    former: dict[str, ColumnElement[float]] = {
        name: literal_column(
            f"branches.{name} + CASE WHEN branches.queued_at = excluded.queued_at THEN 0"
            f" ELSE {cost} END"
        )
        for name, cost in tries.items()
    }
    return statement.on_conflict_do_update(
        index_elements=[Branch.problem_id, Branch.branch_index],
        set_={name: statement.excluded[name] for name in _REPLACED} | former,
        where=or_(*(Branch.finish_reason == reason for reason in _REPLACEABLE)),
    )


_ADD_TRY = text("""
UPDATE branches
SET retried_row_s = retried_row_s + :row_s, retried_tokens = retried_tokens + :tokens
WHERE problem_id = :problem_id
    AND branch_index = :branch_index
    AND finish_reason = ANY(:finished)
    AND queued_at <> :queued_at
""")


def _try(row: BranchRow) -> dict[str, object]:
    """A try beside the row of another one; as `held_s` and `num_rejected` have it."""
    held = row.finished_at - (row.started_at or row.finished_at)
    rejected = sum(row.drafted_by_position) - sum(row.accepted_by_position)
    return {
        "problem_id": row.problem_id,
        "branch_index": row.branch_index,
        "queued_at": row.queued_at,
        "finished": list(FINISHED),
        "row_s": max(0.0, held.total_seconds()),
        "tokens": row.completion_tokens + rejected,
    }


_COLUMNS = tuple(field.name for field in fields(BranchRow))
_REPLACED = tuple(
    column.name
    for column in Branch.__table__.columns
    if column.name not in ("id", "problem_id", "branch_index", "retried_row_s", "retried_tokens")
)


def _columns(row: BranchRow) -> dict[str, object]:
    """The row as Postgres takes it: arrays as lists, no NUL characters in text."""
    return {
        **{name: getattr(row, name) for name in _COLUMNS},
        "text": row.text.replace("\0", ""),
        "answer": None if row.answer is None else row.answer.replace("\0", ""),
        "error": None if row.error is None else row.error.replace("\0", ""),
        "drafted_by_position": list(row.drafted_by_position),
        "accepted_by_position": list(row.accepted_by_position),
    }
