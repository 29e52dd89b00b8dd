"""Webhooks and their deliveries; named as in the OpenAI API where it has the same."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.schemas.text import Text
from scheduler.core.deliveries import WebhookKind
from scheduler.core.states import DeliveryState

EventTypes = Annotated[
    list[WebhookKind],
    Field(min_length=1, max_length=100, description="Kinds of events to be told of."),
    AfterValidator(lambda kinds: list(dict.fromkeys(kinds))),
]
Name = Annotated[Text, Field(max_length=256, description="A label of your own.")]
Url = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=2048,
        description="Where messages are posted: `https` and a public address, unless the server"
        " allows others.",
        examples=["https://grader.example.org/slackline"],
    ),
]


class WebhookIn(BaseModel):
    """An address to be told of events."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "url": "https://grader.example.org/slackline",
                    "event_types": ["job.completed", "job.at_risk", "batch.failed"],
                    "name": "grades",
                }
            ]
        },
    )

    url: Url
    event_types: EventTypes
    name: Name = ""


class WebhookChange(BaseModel):
    """What is to be changed; the rest stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"event_types": ["job.failed"]}]}
    )

    url: Url | None = None
    event_types: EventTypes | None = None
    name: Name | None = None
    enabled: bool | None = Field(
        None,
        description="False: nothing is sent, and events are not kept for later. True ends that, and"
        " what was pending goes on.",
    )


class SecretRotation(BaseModel):
    """How the present secret ends."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"keep_old_secret_s": 3600}]}
    )

    keep_old_secret_s: int = Field(
        86_400,
        ge=0,
        le=7 * 86_400,
        description="Seconds for which messages are signed with the old secret, too.",
    )


class WebhookOut(BaseModel):
    """An address that is told of events."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[WebhookKind]
    signing_secret_hint: str = Field(description="Beginning of the secret.")
    old_secret_until: datetime | None = Field(
        description="Until when messages are signed with the old secret, too."
    )
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None = Field(
        description="First failed attempt since the last one that succeeded."
    )
    created_at: datetime


class WebhookWithSecretOut(WebhookOut):
    """A webhook with its secret, which is not shown again."""

    signing_secret: str = Field(description="`whsec_` and 32 random bytes in base64.")


class WebhookList(BaseModel):
    """All your webhooks, newest first."""

    object: Literal["list"] = "list"
    data: list[WebhookOut]


class DeletedWebhookOut(BaseModel):
    """It is gone, with its deliveries."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class DeliveryOut(BaseModel):
    """One event on its way to one webhook."""

    event_id: str = Field(description="The header `webhook-id`, the same for every attempt.")
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event_type: WebhookKind
    subject_id: str = Field(description="The job or batch.")
    created_at: datetime
    state: DeliveryState = Field(
        description="`dead` when the last attempt failed, or the webhook was disabled."
    )
    num_attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    last_status: int | None = Field(description="HTTP status; null when there was no response.")
    last_error: str | None
    finished_at: datetime | None


class DeliveryPage(BaseModel):
    """Deliveries, the latest event first."""

    object: Literal["list"] = "list"
    data: list[DeliveryOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")


class RedeliveryOut(BaseModel):
    """Deliveries that were dead and are sent again."""

    object: Literal["webhook_redelivery"] = "webhook_redelivery"
    num_deliveries: int
