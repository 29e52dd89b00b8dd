"""Tables of those who submit: tenants and their keys."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class Scope(StrEnum):
    """What a key may do for its tenant."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"
    """Make, list and end the tenant's keys."""


class Tenant(Base):
    """Who pays and shares; `weight` is its share of row-seconds."""

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("weight > 0", name="weight_positive"),
        CheckConstraint("max_queued_tokens >= 0", name="quota_not_negative"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    weight: Mapped[float] = mapped_column(server_default=text("1"))
    # NULL: what the API's settings say.
    max_queued_tokens: Mapped[int | None]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A key is a random 256-bit secret; only its SHA-256 is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "scopes <@ ARRAY['submit', 'read', 'admin'] AND cardinality(scopes) >= 1",
            name="scopes_known",
        ),
        CheckConstraint(
            "(previous_sha256 IS NULL) = (previous_until IS NULL)", name="previous_has_end"
        ),
        Index("ix_api_keys_tenant_id", "tenant_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_sha256: Mapped[str] = mapped_column(unique=True)
    # The secret before the last rotation, and how long it is still good.
    previous_sha256: Mapped[str | None] = mapped_column(unique=True)
    previous_until: Mapped[datetime | None]
    label: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{submit,read}'"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    # To within a minute; see `db.keys.find_key`.
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """One submission per (tenant, key); the hash tells a retry from a different request."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "key"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key: Mapped[str]
    request_sha256: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
