"""Branches: finished samples with their latency traces, written by the worker that ran them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.leases import hold_batch
from db.models import Branch
from db.reports.hours import mark_ended

FINISHED = ("stop", "length")
"""Finish reasons of branches that count; the others ended without an outcome of their own."""

_REPLACEABLE = ("abort", "error")


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
    cost until the index runs again: the next row of that index replaces it.
    """
    held = hold_batch(session, batch_id=batch_id, epoch=epoch)
    if held is None:
        return False
    if rows:
        statement = insert(Branch)
        statement = statement.on_conflict_do_update(
            index_elements=[Branch.problem_id, Branch.branch_index],
            set_={name: statement.excluded[name] for name in _REPLACED},
            where=or_(*(Branch.finish_reason == reason for reason in _REPLACEABLE)),
        )
        lease = {"batch_id": batch_id, "job_id": held.job_id, "worker_name": held.worker_name}
        # On the connection: the session's bulk insert costs three times the time.
        session.connection().execute(statement, [_columns(row) | lease for row in rows])
        mark_ended(session, {row.finished_at for row in rows})
    return True


_COLUMNS = tuple(field.name for field in fields(BranchRow))
_REPLACED = tuple(
    column.name
    for column in Branch.__table__.columns
    if column.name not in ("id", "problem_id", "branch_index")
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
