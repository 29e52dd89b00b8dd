"""Deliveries: each event for each webhook that asked for it, until the receiver has it.

Theory of operation: `announce` stores deliveries in the transaction of what they tell of, so none
is lost and none tells of what was rolled back. An API process sends them under a claim on their
webhook, and one that dies between sending and noting sends again: receivers tell by the event's id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import uuid_utils
from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db.models import Webhook, WebhookDelivery
from db.webhooks import Claim
from scheduler.core.deliveries import WebhookKind
from scheduler.core.states import DELIVERY_TRANSITIONS, DeliveryState, sources_of


@dataclass(frozen=True, slots=True)
class Notice:
    """What webhooks may be told of a job or a batch, by its id. `data` must be JSON."""

    subject_id: str
    kind: WebhookKind
    data: dict[str, Any] = field(default_factory=dict)


# The lock waits for a webhook that is being deleted, which then is no longer there.
_ANNOUNCE = text("""
INSERT INTO webhook_deliveries (
    webhook_id, event_id, event_type, data, created_at, state, next_attempt_at
)
SELECT
    webhooks.id,
    notice.event_id,
    notice.event_type,
    notice.data,
    :now,
    'pending',
    :now
FROM jsonb_to_recordset(:notices)
    AS notice (event_id text, subject_id text, event_type text, data jsonb)
JOIN (
    SELECT id, tenant_id FROM jobs UNION ALL SELECT id, tenant_id FROM openai_batches
) AS subject ON subject.id = notice.subject_id
JOIN webhooks ON webhooks.tenant_id = subject.tenant_id
    AND webhooks.enabled
    AND notice.event_type = ANY(webhooks.event_types)
FOR KEY SHARE OF webhooks
""").bindparams(bindparam("notices", type_=JSONB))


def announce(session: Session, notices: Sequence[Notice], *, now: datetime) -> None:
    """Store a delivery of each notice for each webhook of its tenant that asked for its kind."""
    if not notices:
        return
    rows = [
        {
            "event_id": f"evt_{uuid_utils.uuid7().hex}",
            "subject_id": notice.subject_id,
            "event_type": notice.kind,
            "data": {"id": notice.subject_id, **notice.data},
        }
        for notice in notices
    ]
    session.execute(_ANNOUNCE, {"notices": rows, "now": now})


def next_delivery(
    session: Session, claim: Claim, *, now: datetime
) -> tuple[Webhook, WebhookDelivery] | None:
    """What is to be sent next under a claim; None when nothing is, or the claim is gone."""
    row = session.execute(
        select(Webhook, WebhookDelivery)
        .join(WebhookDelivery, WebhookDelivery.webhook_id == Webhook.id)
        .where(
            Webhook.id == claim.webhook_id,
            Webhook.enabled,
            Webhook.claimed_until == claim.until,
            WebhookDelivery.state == DeliveryState.PENDING,
            WebhookDelivery.next_attempt_at <= now,
        )
        .order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.event_id)
        .limit(1)
    ).first()
    return None if row is None else (row[0], row[1])


def note_attempt(
    session: Session,
    delivery: WebhookDelivery,
    *,
    status: int | None,
    error: str | None,
    retry_at: datetime | None,
    now: datetime,
) -> datetime | None:
    """Store what came of an attempt.

    Args:
        status: HTTP status; None when there was no response.
        error: None when the receiver has it.
        retry_at: When it is sent again after an error; None makes it dead.

    Returns:
        Since when the webhook has taken nothing; None when it has, or is gone.
    """
    first_failure = None if error is None else func.coalesce(Webhook.failing_since, now)
    failing_since = session.scalar(
        update(Webhook)
        .where(Webhook.id == delivery.webhook_id)
        .values(failing_since=first_failure)
        .returning(Webhook.failing_since)
        .execution_options(synchronize_session=False)
    )
    state = DeliveryState.DELIVERED if error is None else DeliveryState.DEAD
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.webhook_id == delivery.webhook_id,
            WebhookDelivery.event_id == delivery.event_id,
            WebhookDelivery.state.in_(sources_of(state, DELIVERY_TRANSITIONS)),
        )
        .values(
            state=state if retry_at is None else DeliveryState.PENDING,
            num_attempts=WebhookDelivery.num_attempts + 1,
            last_attempt_at=now,
            last_status=status,
            last_error=error,
            next_attempt_at=retry_at,
            finished_at=now if retry_at is None else None,
        )
        .execution_options(synchronize_session=False)
    )
    return failing_since


def disable_webhook(session: Session, webhook_id: str, *, reason: str, now: datetime) -> None:
    """Send nothing more to a webhook; what is on its way becomes dead."""
    session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id, Webhook.enabled)
        .values(enabled=False, disabled_reason=reason)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.webhook_id == webhook_id,
            WebhookDelivery.state.in_(sources_of(DeliveryState.DEAD, DELIVERY_TRANSITIONS)),
        )
        .values(
            state=DeliveryState.DEAD,
            next_attempt_at=None,
            finished_at=now,
            last_error=func.coalesce(WebhookDelivery.last_error, reason),
        )
        .execution_options(synchronize_session=False)
    )


def list_deliveries(
    session: Session,
    webhook_id: str,
    *,
    limit: int,
    after: str | None = None,
    state: DeliveryState | None = None,
) -> list[WebhookDelivery]:
    """Deliveries of a webhook, the latest event first, beginning behind `after`."""
    statement = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    if after is not None:
        statement = statement.where(WebhookDelivery.event_id < after)
    return list(session.scalars(statement.order_by(WebhookDelivery.event_id.desc()).limit(limit)))


def redeliver(
    session: Session, webhook_id: str, *, now: datetime, event_id: str | None = None
) -> list[WebhookDelivery]:
    """Send one delivery again, or all that are dead; returns them.

    One that is pending is tried at once. All of them have their attempts before them.
    """
    statement = update(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if event_id is None:
        statement = statement.where(WebhookDelivery.state == DeliveryState.DEAD)
    else:
        statement = statement.where(WebhookDelivery.event_id == event_id)
    again = session.scalars(
        statement.values(
            state=DeliveryState.PENDING, num_attempts=0, next_attempt_at=now, finished_at=None
        )
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False)
    )
    return list(again)


def delete_old_deliveries(session: Session, *, finished_before: datetime) -> None:
    """Forget deliveries that ended long ago, dead ones included."""
    session.execute(
        delete(WebhookDelivery)
        .where(WebhookDelivery.finished_at <= finished_before)
        .execution_options(synchronize_session=False)
    )
