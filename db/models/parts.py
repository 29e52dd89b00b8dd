"""Parts of jobs: problems with the same deadline of their own, and what all that is planned has."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base

PLAN_HAS_FORECAST = "(num_branches IS NULL) = (predicted_accuracy IS NULL)"
RISK_HAS_INSTANT = "(risk_reason IS NULL) = (at_risk_since IS NULL)"


class PlannedColumns:
    """The split in force of a job or a part, what was promised, and what is expected now."""

    # The forecast of the moment of admission.
    admitted_finish_at: Mapped[datetime]
    admitted_finish_p95_at: Mapped[datetime]
    admitted_accuracy: Mapped[float]
    # The split in force; the scheduler rewrites it while problems are pending.
    num_branches: Mapped[int | None] = mapped_column(Integer)
    num_speculative_tokens: Mapped[int | None] = mapped_column(Integer)
    plan_max_tokens: Mapped[int | None] = mapped_column(Integer)
    wave_size: Mapped[int | None] = mapped_column(Integer)
    stop_gain: Mapped[float | None]
    plan_max_branches: Mapped[int | None] = mapped_column(Integer)
    predicted_finish_at: Mapped[datetime | None]
    predicted_finish_p95_at: Mapped[datetime | None]
    predicted_accuracy: Mapped[float | None]
    # `scheduler.core.decisions.RiskReason`; NULL while the deadline is not at risk.
    risk_reason: Mapped[str | None]
    at_risk_since: Mapped[datetime | None]
    # When it would end then, whatever the deadline cuts; NULL where that is not known.
    risk_finish_p95_at: Mapped[datetime | None]


class JobPart(PlannedColumns, Base):
    """Problems of a job that are due before it, at the same instant; planned like a job."""

    __tablename__ = "job_parts"
    __table_args__ = (
        CheckConstraint("part >= 1", name="part_positive"),
        CheckConstraint("num_problems >= 1", name="has_problems"),
        CheckConstraint(PLAN_HAS_FORECAST, name="plan_has_forecast"),
        CheckConstraint(RISK_HAS_INSTANT, name="risk_has_instant"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    # From 1; 0 stands for the problems that are due with the job, which have no row here.
    part: Mapped[int] = mapped_column(Integer, primary_key=True)
    # As asked for; where the job's becomes earlier, that one counts.
    deadline_at: Mapped[datetime]
    num_problems: Mapped[int] = mapped_column(Integer)
    # Whether each of them ended by then, and not all failed; NULL while the job is live, and once
    # it is cancelled.
    met_deadline: Mapped[bool | None]
