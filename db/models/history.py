"""Tables of history: sums of hours and days, and which hours they are up to date for."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class HistoryHour(Base):
    """An hour in which something ended.

    `stale`: rows came since it was last summed up, so reports read its rows. `rolled`: they read
    its rollups. `pruned`: some of its rows are gone, so the rollups are all there is, for ever.
    """

    __tablename__ = "history_hours"
    __table_args__ = (
        CheckConstraint("state IN ('stale', 'rolled', 'pruned')", name="state_known"),
        Index("ix_history_hours_stale", "hour", postgresql_where=text("state = 'stale'")),
    )

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    state: Mapped[str]


class Rollup(Base):
    """Sums of one subject over an hour or a day, for one combination of dimensions.

    The same sums are kept in several details: by all dimensions, by the tenant, and by the tenant
    and each other dimension alone. What a detail leaves out is empty.
    """

    __tablename__ = "rollups"
    __table_args__ = (
        CheckConstraint("period IN ('hour', 'day')", name="period_known"),
        Index("ix_rollups_period_at", "period", "at"),
    )

    # In this order the key is the index by which a report reads.
    subject: Mapped[str] = mapped_column(primary_key=True)
    detail: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    at: Mapped[datetime] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    engine: Mapped[str] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(primary_key=True)
    deadline_class: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    # As `db.reports.sums` reads them.
    sums: Mapped[bytes] = mapped_column(LargeBinary)
