"""Webhooks and deliveries as clients see them."""

from typing import Any

from api.schemas.webhooks import DeliveryOut, WebhookOut, WebhookWithSecretOut
from db.models import Webhook, WebhookDelivery
from scheduler.core.deliveries import WebhookKind
from scheduler.core.states import DeliveryState


def webhook_view(webhook: Webhook) -> WebhookOut:
    """As it stands."""
    return WebhookOut(**_fields(webhook))


def with_secret(webhook: Webhook) -> WebhookWithSecretOut:
    """The one time that its secret is told."""
    return WebhookWithSecretOut(**_fields(webhook), signing_secret=webhook.secret)


def delivery_view(delivery: WebhookDelivery) -> DeliveryOut:
    """As it stands; of the message only whom it is about."""
    return DeliveryOut(
        event_id=delivery.event_id,
        event_type=WebhookKind(delivery.event_type),
        subject_id=delivery.data["id"],
        created_at=delivery.created_at,
        state=DeliveryState(delivery.state),
        num_attempts=delivery.num_attempts,
        next_attempt_at=delivery.next_attempt_at,
        last_attempt_at=delivery.last_attempt_at,
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        finished_at=delivery.finished_at,
    )


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "event_types": [WebhookKind(kind) for kind in webhook.event_types],
        "signing_secret_hint": f"{webhook.secret[:10]}...",
        "old_secret_until": webhook.previous_secret_until,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": webhook.failing_since,
        "created_at": webhook.created_at,
    }
