"""Tables of webhooks: who is to be told of which events, and the way of each event there."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, one_of
from scheduler.core.states import DeliveryState


class Webhook(Base):
    """An address of a tenant that is told of events."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)",
            name="previous_secret_has_end",
        ),
        CheckConstraint("enabled = (disabled_reason IS NULL)", name="reason_iff_disabled"),
        Index("ix_webhooks_tenant_id", "tenant_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Kept as they are: signing needs them.
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    # Of the first failed attempt since the last one that succeeded.
    failing_since: Mapped[datetime | None]
    # Which API process sends: the instant is its claim, and runs out if it dies.
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookDelivery(Base):
    """One event on its way to one webhook; stored in the transaction of the event."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("state", DeliveryState), name="state_known"),
        CheckConstraint(
            "(state = 'pending') = (next_attempt_at IS NOT NULL)", name="next_attempt_iff_pending"
        ),
        CheckConstraint(
            "(state = 'pending') = (finished_at IS NULL)", name="finished_at_unless_pending"
        ),
        Index(
            "ix_webhook_deliveries_pending",
            "webhook_id",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("ix_webhook_deliveries_finished_at", "finished_at"),
    )

    webhook_id: Mapped[str] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True
    )
    event_id: Mapped[str] = mapped_column(primary_key=True)
    event_type: Mapped[str]
    # Of the job or batch; with the columns around it the whole message.
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    state: Mapped[str]
    num_attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_attempt_at: Mapped[datetime | None]
    last_attempt_at: Mapped[datetime | None]
    # HTTP status of the last attempt; NULL when there was no response.
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]
