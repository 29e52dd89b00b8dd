"""Tables of a submission: the job and its history."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import PARTITION_BY_JOB, Base, one_of
from db.models.parts import PLAN_HAS_FORECAST, RISK_HAS_INSTANT, PlannedColumns
from scheduler.core.states import JobState


class Job(PlannedColumns, Base):
    """One submission with its deadline.

    What is planned are the problems due then; those with a deadline of their own are in `JobPart`.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(one_of("state", JobState), name="state_known"),
        CheckConstraint(
            "(state IN ('completed', 'expired', 'failed', 'cancelled'))"
            " = (finished_at IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        CheckConstraint(
            "(state IN ('completed', 'expired', 'failed')) = (met_deadline IS NOT NULL)",
            name="met_deadline_iff_ended",
        ),
        CheckConstraint(
            "state <> 'running' OR started_at IS NOT NULL", name="started_at_when_running"
        ),
        CheckConstraint("max_branches >= 1", name="max_branches_positive"),
        CheckConstraint("num_problems >= 1", name="has_problems"),
        CheckConstraint(PLAN_HAS_FORECAST, name="plan_has_forecast"),
        CheckConstraint(RISK_HAS_INSTANT, name="risk_has_instant"),
        Index("ix_jobs_live", "deadline_at", postgresql_where=text("finished_at IS NULL")),
        Index("ix_jobs_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_jobs_created_at", "created_at"),
        Index("ix_jobs_finished_at", "finished_at"),
        Index("ix_jobs_model_family_created_at", "model", "family", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    model: Mapped[str]
    # Kind of problems: what is learned from them is kept by model and family.
    family: Mapped[str] = mapped_column(server_default=text("'any'"))
    state: Mapped[str]
    deadline_at: Mapped[datetime]
    weight: Mapped[float] = mapped_column(server_default=text("1"))
    max_branches: Mapped[int] = mapped_column(Integer)
    max_tokens: Mapped[int | None] = mapped_column(Integer)
    min_accuracy: Mapped[float | None]
    temperature: Mapped[float]
    top_p: Mapped[float]
    # `scheduler.core.branch_options.BranchOptions`; what is missing has its default.
    branch_options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    # As `scheduler.core.grading.Grading.to_dict` gives it.
    grading: Mapped[dict[str, Any]] = mapped_column(
        JSONB, server_default=text('\'{"method": "equivalence"}\'')
    )
    # False for a job that only grades the answers of others.
    solve: Mapped[bool] = mapped_column(server_default=text("true"))
    # Digest of options and problems; NULL for jobs that no request of their own made.
    request_sha256: Mapped[str | None]
    # The job whose problems without an answer these are.
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    # Of the request that made it; NULL when that was not traced. See `db.tracing`.
    traceparent: Mapped[str | None]
    num_problems: Mapped[int] = mapped_column(Integer)
    mean_prompt_tokens: Mapped[float]
    # What an open problem of it counts for in the tenant's quota; fixed at submit.
    tokens_per_problem: Mapped[float] = mapped_column(server_default=text("0"))
    # The verdict at submit: `accepted` or `accepted_degraded`.
    verdict: Mapped[str]
    # False for a best effort, which gets what other jobs leave.
    is_promised: Mapped[bool] = mapped_column(server_default=text("true"))
    # What the forecast at admission rested on; NULL for jobs of older releases.
    forecast_basis: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Whether it completed, and each problem by its deadline; NULL while live and once cancelled.
    met_deadline: Mapped[bool | None]
    error: Mapped[str | None]
    # `db.progress.JobProgress` of a job that ended; NULL for those of older releases.
    final_progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class JobEvent(Base):
    """One row per transition or decision, so that history and latency are plain SQL."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index("ix_job_events_job_id_id", "job_id", "id"),
        Index("ix_job_events_tenant_id_id", "tenant_id", "id"),
        PARTITION_BY_JOB,
    )

    # Grows in the order of commits; see `db.events`.
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    # That of its job, so that a tenant's history needs no join.
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    at: Mapped[datetime]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
