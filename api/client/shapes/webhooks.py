"""Webhooks and what became of their messages."""

from typing import Literal, NotRequired, TypedDict

EventType = Literal[
    "job.completed",
    "job.expired",
    "job.failed",
    "job.cancelled",
    "job.at_risk",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "batch.cancelled",
]
"""What a webhook may be told of."""

DeliveryState = Literal["pending", "delivered", "dead"]


class Webhook(TypedDict):
    """An address that is told of events."""

    id: str
    name: str
    url: str
    event_types: list[EventType]
    signing_secret_hint: str
    old_secret_until: str | None
    enabled: bool
    disabled_reason: str | None
    failing_since: str | None
    created_at: str
    signing_secret: NotRequired[str]


class Delivery(TypedDict):
    """One event on its way to one webhook."""

    event_id: str
    event_type: EventType
    subject_id: str
    created_at: str
    state: DeliveryState
    num_attempts: int
    next_attempt_at: str | None
    last_attempt_at: str | None
    last_status: int | None
    last_error: str | None
    finished_at: str | None
