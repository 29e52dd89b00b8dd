"""The calls about webhooks, described once for `Client` and `AsyncClient`."""

import json
from collections.abc import Sequence
from typing import Any

from api.client.errors import SlacklineError
from api.client.requests import Call, Pages, Request
from api.client.shapes import Delivery, DeliveryState, EventType, Webhook

_JSON = {"Content-Type": "application/json"}


def create_webhook(url: str, event_types: Sequence[EventType], *, name: str = "") -> Call[Webhook]:
    """Be told of events at an address; `signing_secret` is in this answer only.

    A lost connection may leave a webhook behind whose secret nobody knows: list and delete it.
    """
    body = {"url": url, "event_types": list(event_types), "name": name}
    return Call(_with_body("POST", "/v1/webhooks", body), _as_it_is)


def webhook(webhook_id: str) -> Call[Webhook]:
    """The webhook as it stands."""
    return Call(Request("GET", _path(webhook_id)), _as_it_is)


def webhooks() -> Call[list[Webhook]]:
    """All webhooks, newest first."""
    return Call(Request("GET", "/v1/webhooks"), lambda document: document["data"])


def change_webhook(
    webhook_id: str,
    *,
    url: str | None = None,
    event_types: Sequence[EventType] | None = None,
    name: str | None = None,
    enabled: bool | None = None,
) -> Call[Webhook]:
    """Change what is given; the rest stays."""
    given = {"url": url, "event_types": event_types and list(event_types), "name": name}
    body = {k: v for k, v in (given | {"enabled": enabled}).items() if v is not None}
    return Call(_with_body("PATCH", _path(webhook_id), body), _as_it_is)


def rotate_webhook_secret(webhook_id: str, *, keep_old_secret_s: int = 86_400) -> Call[Webhook]:
    """Sign with a new secret, in this answer only, and for a while with the old one, too."""
    body = {"keep_old_secret_s": keep_old_secret_s}
    return Call(_with_body("POST", f"{_path(webhook_id)}/rotate_secret", body), _as_it_is)


def delete_webhook(webhook_id: str) -> Call[dict[str, Any]]:
    """Forget the webhook and its deliveries."""
    return Call(Request("DELETE", _path(webhook_id)), _as_it_is)


def deliveries(
    webhook_id: str, *, state: DeliveryState | None = None, limit: int | None = None
) -> Pages[Delivery]:
    """What became of each event, the latest first; `state="dead"` is what never arrived."""
    return Pages(Request("GET", f"{_path(webhook_id)}/deliveries", {"state": state}), limit)


def redeliver(webhook_id: str, event_id: str) -> Call[Delivery]:
    """Send one event again."""
    path = f"{_path(webhook_id)}/deliveries/{_id(event_id)}/redeliver"
    return Call(Request("POST", path), _as_it_is)


def redeliver_dead(webhook_id: str) -> Call[int]:
    """Send everything again that never arrived; the answer is how much."""
    path = f"{_path(webhook_id)}/redeliver"
    return Call(Request("POST", path), lambda document: document["num_deliveries"])


def _path(webhook_id: str) -> str:
    return f"/v1/webhooks/{_id(webhook_id)}"


def _id(text: str) -> str:
    """An id with other characters could name another resource."""
    if not text.replace("_", "").isalnum():
        raise SlacklineError(f"{text!r} is not an id; one looks like wh_0190... or evt_0190...")
    return text


def _with_body(method: str, path: str, body: dict[str, Any]) -> Request:
    content = json.dumps(body).encode()
    return Request(method, path, headers=_JSON, content=lambda: content)


def _as_it_is(document: Any) -> Any:
    return document
