"""Webhooks: addresses of a tenant, and the claims under which API processes send to them.

Who changes a webhook and its deliveries in one transaction locks the webhook first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from db.models import Tenant, Webhook, WebhookDelivery
from scheduler.core.states import DeliveryState


def insert_webhook(session: Session, webhook: Webhook, *, max_per_tenant: int) -> bool:
    """Store a webhook; False when the tenant has as many as it may have."""
    tenant = Webhook.tenant_id == webhook.tenant_id
    # Of two that come at once, one waits here and counts the other.
    session.execute(
        select(Tenant.id).where(Tenant.id == webhook.tenant_id).with_for_update(key_share=True)
    )
    number = session.scalars(select(func.count()).select_from(Webhook).where(tenant)).one()
    if number >= max_per_tenant:
        return False
    session.add(webhook)
    session.flush()
    return True


def get_webhook(session: Session, tenant_id: str, webhook_id: str) -> Webhook | None:
    """The tenant's webhook; None when there is none, or it is another tenant's."""
    return session.scalar(
        select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    )


def list_webhooks(session: Session, tenant_id: str) -> list[Webhook]:
    """All webhooks of the tenant, newest first."""
    return list(
        session.scalars(
            select(Webhook).where(Webhook.tenant_id == tenant_id).order_by(Webhook.id.desc())
        )
    )


def update_webhook(
    session: Session, tenant_id: str, webhook_id: str, **values: Any
) -> Webhook | None:
    """Change columns of the tenant's webhook; None when there is none."""
    return session.scalar(
        update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
        .values(**values)
        .returning(Webhook)
        .execution_options(populate_existing=True)
    )


def rotate_secret(
    session: Session, tenant_id: str, webhook_id: str, *, secret: str, keep_until: datetime | None
) -> Webhook | None:
    """Sign with a new secret, and with the present one too until an instant, if one is given."""
    return update_webhook(
        session,
        tenant_id,
        webhook_id,
        secret=secret,
        previous_secret=None if keep_until is None else Webhook.secret,
        previous_secret_until=keep_until,
    )


def delete_webhook(session: Session, tenant_id: str, webhook_id: str) -> bool:
    """Drop the tenant's webhook and its deliveries; False when there is none."""
    deleted = session.scalar(
        delete(Webhook)
        .where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
        .returning(Webhook.id)
    )
    return deleted is not None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send to a webhook until an instant, which also tells one claim from another."""

    webhook_id: str
    until: datetime


def claim_webhooks(
    session: Session, *, limit: int, until: datetime, now: datetime
) -> Sequence[Claim]:
    """Take webhooks that have something to send and that nobody sends to."""
    is_due = exists().where(
        WebhookDelivery.webhook_id == Webhook.id,
        WebhookDelivery.state == DeliveryState.PENDING,
        WebhookDelivery.next_attempt_at <= now,
    )
    free = (
        select(Webhook.id)
        .where(Webhook.enabled, func.coalesce(Webhook.claimed_until <= now, True), is_due)
        # Those that wait longest since their last turn.
        .order_by(Webhook.claimed_until.nulls_first(), Webhook.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("free")
    )
    claimed = session.scalars(
        update(Webhook)
        .where(Webhook.id == free.c.id)
        .values(claimed_until=until)
        .returning(Webhook.id)
        .execution_options(synchronize_session=False)
    )
    return [Claim(webhook_id, until) for webhook_id in claimed]


def release_webhook(session: Session, claim: Claim, *, now: datetime) -> None:
    """Give a claim back before it runs out."""
    session.execute(
        update(Webhook)
        .where(Webhook.id == claim.webhook_id, Webhook.claimed_until == claim.until)
        .values(claimed_until=now)
    )
