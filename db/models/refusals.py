"""Table of the submissions that were refused."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Refusal(Base):
    """One refused submission: a decision, but no job. Its problems are not kept."""

    __tablename__ = "refusals"
    __table_args__ = (
        CheckConstraint("reason IN ('deadline_infeasible', 'no_capacity')", name="reason_known"),
        Index("ix_refusals_at", "at"),
        Index("ix_refusals_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    at: Mapped[datetime]
    reason: Mapped[str]
    model: Mapped[str]
    num_problems: Mapped[int] = mapped_column(Integer)
    mean_prompt_tokens: Mapped[float]
    max_branches: Mapped[int] = mapped_column(Integer)
    deadline_at: Mapped[datetime]
    # Null when nobody served the model.
    earliest_finish_at: Mapped[datetime | None]
