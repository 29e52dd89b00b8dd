"""Webhooks without any IO: what they may tell of, and when a failed delivery is tried again."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from scheduler.core.event_kinds import EventKind


class WebhookKind(StrEnum):
    """What a webhook may ask for: about jobs, and ends of batches in OpenAI's own words."""

    JOB_COMPLETED = "job.completed"
    JOB_EXPIRED = "job.expired"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_AT_RISK = "job.at_risk"
    BATCH_COMPLETED = "batch.completed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_FAILED = "batch.failed"
    BATCH_CANCELLED = "batch.cancelled"


OF_JOBS: Mapping[EventKind, WebhookKind] = MappingProxyType(
    {
        EventKind(kind.value): kind
        for kind in WebhookKind
        # Batches of job events are those that workers take, which concern no client.
        if kind.value.startswith("job.")
    }
)
"""The job events that webhooks may tell of."""


_JITTER = 0.2
"""Retries of many deliveries that failed together are spread over this share of their delay."""


def retry_delay_s(delays_s: Sequence[float], num_attempts: int, draw: float) -> float | None:
    """Seconds until a delivery that failed so often is tried again; None when it is dead.

    Args:
        delays_s: Delay after the first failure, after the second, and so on.
        num_attempts: Attempts so far, the one that failed just now included; at least 1.
        draw: Uniform in [0, 1).
    """
    if num_attempts > len(delays_s):
        return None
    return delays_s[num_attempts - 1] * (1.0 + _JITTER * draw)
