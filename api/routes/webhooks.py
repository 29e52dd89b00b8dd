"""Webhooks: who is told of the ends of jobs and batches, and what became of each message."""

import re
from datetime import timedelta
from typing import Annotated, Any

import uuid_utils
from fastapi import APIRouter, Depends, Query

from api.auth import Caller
from api.body import ReceivedJson, parse_json
from api.dependencies import Sessions, Settings, utc_now
from api.errors import invalid, not_found
from api.schemas.openapi import TOO_LARGE, body_of
from api.schemas.operations import ErrorOut
from api.schemas.webhooks import (
    DeletedWebhookOut,
    DeliveryOut,
    DeliveryPage,
    RedeliveryOut,
    SecretRotation,
    WebhookChange,
    WebhookIn,
    WebhookList,
    WebhookOut,
    WebhookWithSecretOut,
)
from api.webhooks.creation import checked_url, new_secret, too_many
from api.webhooks.views import delivery_view, webhook_view, with_secret
from db import deliveries, webhooks
from db.models import Webhook
from db.session import transaction
from scheduler.core.states import DeliveryState

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

_WEBHOOK_ID = re.compile(r"wh_[0-9a-f]{32}")
_EVENT_ID = re.compile(r"evt_[0-9a-f]{32}")
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such webhook or delivery of yours."}
}
_BY_USER = "you disabled it"


def _known_webhook(webhook_id: str) -> str:
    if not _WEBHOOK_ID.fullmatch(webhook_id):
        raise not_found("webhook", webhook_id)
    return webhook_id


def _known_event(event_id: str) -> str:
    if not _EVENT_ID.fullmatch(event_id):
        raise not_found("event", event_id)
    return event_id


WebhookId = Annotated[str, Depends(_known_webhook)]
EventId = Annotated[str, Depends(_known_event)]


@router.post(
    "",
    status_code=201,
    summary="Create a webhook",
    openapi_extra=body_of(WebhookIn),
    responses={
        **TOO_LARGE,
        409: {"model": ErrorOut, "description": "You have as many webhooks as you may."},
    },
)
def create_webhook(
    body: ReceivedJson, caller: Caller, settings: Settings, sessions: Sessions
) -> WebhookWithSecretOut:
    """Be told of events at an address. The secret that signs messages is shown only here.

    A message is `{"id", "object": "event", "created_at", "type", "data": {"id", ...}}` with the
    headers of Standard Webhooks; `client.webhooks.unwrap` of the OpenAI client verifies it. Answer
    with any 2xx. A message may come more than once, with the same `webhook-id`.
    """
    wanted = parse_json(body, WebhookIn)
    webhook = Webhook(
        id=f"wh_{uuid_utils.uuid7().hex}",
        tenant_id=caller,
        name=wanted.name,
        url=checked_url(wanted.url, settings.webhooks),
        event_types=[kind.value for kind in wanted.event_types],
        secret=new_secret(),
        enabled=True,
        created_at=utc_now(),
    )
    with transaction(sessions) as session:
        limit = settings.webhooks.max_per_tenant
        if not webhooks.insert_webhook(session, webhook, max_per_tenant=limit):
            raise too_many(settings.webhooks)
    return with_secret(webhook)


@router.get("", summary="List webhooks, newest first")
def list_webhooks(caller: Caller, sessions: Sessions) -> WebhookList:
    """All your webhooks."""
    with transaction(sessions) as session:
        found = webhooks.list_webhooks(session, caller)
    return WebhookList(data=[webhook_view(webhook) for webhook in found])


@router.get("/{webhook_id}", summary="Read a webhook", responses=_NOT_FOUND)
def read_webhook(webhook_id: WebhookId, caller: Caller, sessions: Sessions) -> WebhookOut:
    """Its address, events and health."""
    with transaction(sessions) as session:
        return webhook_view(_found(webhooks.get_webhook(session, caller, webhook_id), webhook_id))


@router.patch(
    "/{webhook_id}",
    summary="Change a webhook",
    openapi_extra=body_of(WebhookChange),
    responses=_NOT_FOUND | TOO_LARGE,
)
def change_webhook(
    webhook_id: WebhookId,
    body: ReceivedJson,
    caller: Caller,
    settings: Settings,
    sessions: Sessions,
) -> WebhookOut:
    """Change address, events or name, disable it, or enable it again."""
    change = parse_json(body, WebhookChange)
    values: dict[str, Any] = {}
    if change.url is not None:
        values["url"] = checked_url(change.url, settings.webhooks)
    if change.event_types is not None:
        values["event_types"] = [kind.value for kind in change.event_types]
    if change.name is not None:
        values["name"] = change.name
    if change.enabled is not None:
        values["enabled"] = change.enabled
        values["disabled_reason"] = None if change.enabled else _BY_USER
        values["failing_since"] = None
    if not values:
        raise invalid(None, "Nothing to change. Send url, event_types, name or enabled.")
    with transaction(sessions) as session:
        changed = webhooks.update_webhook(session, caller, webhook_id, **values)
        return webhook_view(_found(changed, webhook_id))


@router.post(
    "/{webhook_id}/rotate_secret",
    summary="Rotate the secret",
    openapi_extra=body_of(SecretRotation, required=False),
    responses=_NOT_FOUND | TOO_LARGE,
)
def rotate_secret(
    webhook_id: WebhookId, body: ReceivedJson, caller: Caller, sessions: Sessions
) -> WebhookWithSecretOut:
    """Sign with a new secret, shown only here; for a while with the old one, too."""
    keep_s = parse_json(body or b"{}", SecretRotation).keep_old_secret_s
    keep_until = utc_now() + timedelta(seconds=keep_s) if keep_s else None
    with transaction(sessions) as session:
        rotated = webhooks.rotate_secret(
            session, caller, webhook_id, secret=new_secret(), keep_until=keep_until
        )
        return with_secret(_found(rotated, webhook_id))


@router.delete("/{webhook_id}", summary="Delete a webhook", responses=_NOT_FOUND)
def delete_webhook(webhook_id: WebhookId, caller: Caller, sessions: Sessions) -> DeletedWebhookOut:
    """Forget it and its deliveries. To keep the list, disable it instead."""
    with transaction(sessions) as session:
        if not webhooks.delete_webhook(session, caller, webhook_id):
            raise not_found("webhook", webhook_id)
    return DeletedWebhookOut(id=webhook_id)


@router.get(
    "/{webhook_id}/deliveries", summary="List deliveries, latest first", responses=_NOT_FOUND
)
def list_deliveries(
    webhook_id: WebhookId,
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(description="`next_after` of the page before.")] = None,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
) -> DeliveryPage:
    """What became of each event; `state=dead` lists what never arrived."""
    if after is not None and not _EVENT_ID.fullmatch(after):
        raise invalid("after", "No event has the id in 'after'. Pass 'next_after' of a page.")
    with transaction(sessions) as session:
        _found(webhooks.get_webhook(session, caller, webhook_id), webhook_id)
        found = deliveries.list_deliveries(
            session, webhook_id, limit=limit + 1, after=after, state=state
        )
    page, has_more = found[:limit], len(found) > limit
    return DeliveryPage(
        data=[delivery_view(delivery) for delivery in page],
        has_more=has_more,
        next_after=page[-1].event_id if has_more else None,
    )


@router.post(
    "/{webhook_id}/deliveries/{event_id}/redeliver",
    summary="Send one delivery again",
    responses=_NOT_FOUND,
)
def redeliver(
    webhook_id: WebhookId, event_id: EventId, caller: Caller, sessions: Sessions
) -> DeliveryOut:
    """Send an event once more, whatever became of it, with all retries before it."""
    with transaction(sessions) as session:
        _found(webhooks.get_webhook(session, caller, webhook_id), webhook_id)
        again = deliveries.redeliver(session, webhook_id, event_id=event_id, now=utc_now())
    if not again:
        raise not_found("event", event_id)
    return delivery_view(again[0])


@router.post(
    "/{webhook_id}/redeliver", summary="Send all dead deliveries again", responses=_NOT_FOUND
)
def redeliver_dead(webhook_id: WebhookId, caller: Caller, sessions: Sessions) -> RedeliveryOut:
    """Send everything that never arrived, with all retries before it."""
    with transaction(sessions) as session:
        _found(webhooks.get_webhook(session, caller, webhook_id), webhook_id)
        again = deliveries.redeliver(session, webhook_id, now=utc_now())
    return RedeliveryOut(num_deliveries=len(again))


def _found(webhook: Webhook | None, webhook_id: str) -> Webhook:
    if webhook is None:
        raise not_found("webhook", webhook_id)
    return webhook
