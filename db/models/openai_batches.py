"""Tables of OpenAI batches: a thin row above the jobs that do the work."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, one_of
from scheduler.core.states import OpenaiBatchState


class OpenaiBatch(Base):
    """A file of requests with a completion window. Its lines become problems of one job or more."""

    __tablename__ = "openai_batches"
    __table_args__ = (
        CheckConstraint(one_of("state", OpenaiBatchState), name="state_known"),
        CheckConstraint(
            " AND ".join(
                f"(state <> '{state.value}' OR {state.value}_at IS NOT NULL)"
                for state in OpenaiBatchState
                if state is not OpenaiBatchState.VALIDATING
            ),
            name="state_has_instant",
        ),
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("ix_openai_batches_tenant_id_created_at", "tenant_id", "created_at", "id"),
        Index(
            "ix_openai_batches_live",
            "state",
            postgresql_where=text(
                "state IN ('validating', 'in_progress', 'finalizing', 'cancelling')"
            ),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str]
    endpoint: Mapped[str]
    # Not a foreign key: the file may be unknown, and may be deleted once it was read.
    input_file_id: Mapped[str]
    completion_window: Mapped[str]
    # The client's own, as sent; `metadata` is taken by SQLAlchemy.
    labels: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    # Ours: what the jobs are to be run with.
    options: Mapped[dict[str, Any]]
    output_expires_after_s: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    model: Mapped[str | None]
    # What failed the validation: a list of {code, message, param, line}.
    errors: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    num_lines: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    num_completed: Mapped[int | None] = mapped_column(Integer)
    num_failed: Mapped[int | None] = mapped_column(Integer)
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    output_file_id: Mapped[str]
    error_file_id: Mapped[str]
    # Of the request that made it, for the jobs to come; NULL when that was not traced.
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    # Who validates: rises with every claim, and what carries an older one is not stored. It rises,
    # too, with every failure to write the files, which is tried again after `claimed_until`.
    epoch: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    claimed_until: Mapped[datetime | None]


class OpenaiBatchJob(Base):
    """Which jobs do the work of a batch: one for each kind of request in its file."""

    __tablename__ = "openai_batch_jobs"
    __table_args__ = (Index("ix_openai_batch_jobs_batch_id", "batch_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("openai_batches.id", ondelete="CASCADE"))


class RefusedLine(Base):
    """A line that asks for what cannot be done, with the HTTP error that it would have got."""

    __tablename__ = "refused_lines"

    batch_id: Mapped[str] = mapped_column(
        ForeignKey("openai_batches.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    key: Mapped[str]
    status: Mapped[int] = mapped_column(Integer)
    error: Mapped[dict[str, Any]]
