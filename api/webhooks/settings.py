"""Settings of webhooks, part of those of the API process."""

from pydantic import BaseModel, Field


class WebhookSettings(BaseModel):
    """Read from `SLACKLINE_WEBHOOKS__` plus the name.

    Attributes:
        allow_private: Send to loopback and private addresses too, and by `http`. The embedded mode
            sets it; on a server that has tenants it would let them into the server's network.
        max_per_tenant: Webhooks of a tenant.
        timeout_s: From the look-up of the name to the end of the response.
        retry_delays_s: From a failed attempt to the next; after the last the delivery is dead. Each
            is stretched by up to a fifth at random.
        max_concurrent: Webhooks that one process sends to at once, to each one by one.
        keep_days: How long deliveries that ended are listed.
    """

    allow_private: bool = False
    max_per_tenant: int = 20
    timeout_s: float = Field(default=10.0, gt=0)
    retry_delays_s: tuple[float, ...] = (5, 300, 1800, 7200, 28_800, 86_400)
    max_concurrent: int = Field(default=32, ge=1)
    keep_days: float = 30
