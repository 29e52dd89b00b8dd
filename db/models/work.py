"""Tables of the work on a job: batches, problems and branches."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import PARTITION_BY_JOB, Base, one_of
from scheduler.core.states import BatchState, ProblemState


class Batch(Base):
    """Problems of one part of a job given to one worker under one plan, held by a lease."""

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(one_of("state", BatchState), name="state_known"),
        CheckConstraint(
            "state <> 'claimed' OR (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL"
            " AND claimed_at IS NOT NULL)",
            name="claimed_has_lease",
        ),
        CheckConstraint(
            "(state IN ('done', 'lost', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        Index(
            "ix_batches_live",
            "worker_name",
            postgresql_where=text("state IN ('planned', 'claimed')"),
        ),
        Index("ix_batches_job_id", "job_id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    part: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    worker_name: Mapped[str] = mapped_column(ForeignKey("workers.name"))
    state: Mapped[str]
    # Rises with every claim; a write that carries an older epoch is refused.
    epoch: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    num_problems: Mapped[int] = mapped_column(Integer)
    num_branches: Mapped[int] = mapped_column(Integer)
    num_speculative_tokens: Mapped[int] = mapped_column(Integer)
    max_tokens: Mapped[int] = mapped_column(Integer)
    wave_size: Mapped[int] = mapped_column(Integer)
    stop_gain: Mapped[float] = mapped_column(server_default=text("0"))
    max_branches: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]


class Problem(Base):
    """One prompt with its answer; planned against actual in one row."""

    __tablename__ = "problems"
    __table_args__ = (
        CheckConstraint(one_of("state", ProblemState), name="state_known"),
        CheckConstraint(
            "(state IN ('dispatched', 'running')) <= (batch_id IS NOT NULL)",
            name="in_flight_has_batch",
        ),
        CheckConstraint("state <> 'pending' OR batch_id IS NULL", name="pending_has_no_batch"),
        CheckConstraint(
            "(state IN ('answered', 'expired', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        CheckConstraint(
            "(state = 'answered') = (vote_share IS NOT NULL)", name="answered_has_vote"
        ),
        CheckConstraint("state <> 'failed' OR error IS NOT NULL", name="failed_has_error"),
        CheckConstraint("NOT degraded OR state = 'answered'", name="degraded_is_answered"),
        UniqueConstraint("job_id", "key"),
        UniqueConstraint("job_id", "position"),
        Index(
            "ix_problems_pending",
            "job_id",
            "part",
            "position",
            postgresql_where=text("state = 'pending'"),
        ),
        # Counts of open problems per job without touching the answered ones.
        Index(
            "ix_problems_open",
            "job_id",
            "state",
            postgresql_where=text("finished_at IS NULL"),
        ),
        # The same of those with a deadline of their own.
        Index(
            "ix_problems_open_parts",
            "job_id",
            "part",
            "state",
            postgresql_where=text("finished_at IS NULL AND part > 0"),
        ),
        Index("ix_problems_batch_id", "batch_id"),
        # All that progress counts: equal entries are stored once, so it stays small.
        Index("ix_problems_progress", "job_id", "state", "degraded", "is_correct"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    # Deferrable: problems are stored before it is known what their job will be.
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE", deferrable=True))
    # The client's id of the problem, unique within the job.
    key: Mapped[str]
    position: Mapped[int] = mapped_column(Integer)
    # Of the job: 0 is due with it, others have their deadline in `JobPart`.
    part: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    prompt: Mapped[str]
    # The turns of a chat that the prompt was made from; NULL for a plain prompt.
    messages: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    reference_answer: Mapped[str | None]
    # Instead of the job's.
    grading: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    state: Mapped[str]
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"))
    # Planned.
    num_branches: Mapped[int | None] = mapped_column(Integer)
    num_speculative_tokens: Mapped[int | None] = mapped_column(Integer)
    max_tokens: Mapped[int | None] = mapped_column(Integer)
    predicted_finish_at: Mapped[datetime | None]
    predicted_accuracy: Mapped[float | None]
    # Actual. `answer` is NULL on an answered problem whose branches all ended without one.
    num_branches_finished: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    answer: Mapped[str | None]
    vote_share: Mapped[float | None]
    is_correct: Mapped[bool | None]
    # Why; NULL also when no worker was there to say.
    grade_reason: Mapped[str | None]
    degraded: Mapped[bool] = mapped_column(server_default=text("false"))
    error: Mapped[str | None]
    # Workers that were lost while they worked on it.
    num_losses: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    dispatched_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Branch(Base):
    """One sampled solution and its latency trace. Durations in seconds."""

    __tablename__ = "branches"
    __table_args__ = (
        CheckConstraint(
            "finish_reason IN ('stop', 'length', 'abort', 'error')", name="finish_reason_known"
        ),
        CheckConstraint(
            "vote_class IS NULL OR finish_reason IN ('stop', 'length')",
            name="vote_class_of_finished",
        ),
        CheckConstraint("(vote_class IS NULL) = (answer IS NULL)", name="vote_class_iff_answer"),
        CheckConstraint(
            "cardinality(accepted_by_position) = cardinality(drafted_by_position)",
            name="positions_match",
        ),
        Index("ix_branches_job_id_finished_at", "job_id", "finished_at"),
        Index("ix_branches_finished_at", "finished_at"),
        PARTITION_BY_JOB,
    )

    # Counted once: after a rescue only indexes that are not here run again.
    problem_id: Mapped[int] = mapped_column(
        ForeignKey("problems.id", ondelete="CASCADE"), primary_key=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    branch_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batches.id"))
    worker_name: Mapped[str]
    num_speculative_tokens: Mapped[int] = mapped_column(Integer)
    finish_reason: Mapped[str]
    text: Mapped[str]
    answer: Mapped[str | None]
    # Branches of a problem with equivalent answers share a class, numbered by first finisher.
    vote_class: Mapped[int | None] = mapped_column(Integer)
    # Graded once per class when the problem has a reference answer.
    is_correct: Mapped[bool | None]
    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime]
    queue_time_s: Mapped[float]
    ttft_s: Mapped[float | None]
    decode_time_s: Mapped[float | None]
    prompt_tokens: Mapped[int] = mapped_column(Integer)
    completion_tokens: Mapped[int] = mapped_column(Integer)
    num_steps: Mapped[int] = mapped_column(Integer)
    drafted_by_position: Mapped[list[int]]
    accepted_by_position: Mapped[list[int]]
    # Rows that the engine had in use when it ended, its own included; NULL in older releases.
    num_rows: Mapped[int | None] = mapped_column(Integer)
    # What earlier tries of the same index cost, of which nothing else is kept.
    retried_row_s: Mapped[float] = mapped_column(server_default=literal_column("0"))
    retried_tokens: Mapped[int] = mapped_column(server_default=literal_column("0"))
    error: Mapped[str | None]
