"""Prometheus metrics of deliveries."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from scheduler.core.states import DeliveryState

_ATTEMPT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DELAY_BUCKETS_S = (0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 21_600.0, 86_400.0)
_OUTCOMES = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.PENDING: "retried",
    DeliveryState.DEAD: "dead",
}


class DeliveryMetrics:
    """What this process has sent. Labels name no tenant and no webhook."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "slackline_webhook_attempts",
            "Attempts to deliver an event to a webhook, by what came of it: delivered, to be"
            " retried, or dead.",
            ("outcome",),
            registry=registry,
        )
        for outcome in _OUTCOMES.values():
            self._attempts.labels(outcome)
        self._duration = Histogram(
            "slackline_webhook_attempt_duration_seconds",
            "Time from the resolution of the receiver's name to the end of its response.",
            registry=registry,
            buckets=_ATTEMPT_BUCKETS_S,
        )
        self._delay = Histogram(
            "slackline_webhook_delivery_delay_seconds",
            "Time from an event to its arrival, retries included.",
            registry=registry,
            buckets=_DELAY_BUCKETS_S,
        )

    def observe(self, state: DeliveryState, *, took_s: float, delay_s: float) -> None:
        """Count one attempt, which left its delivery in this state so long after the event."""
        self._attempts.labels(_OUTCOMES[state]).inc()
        self._duration.observe(took_s)
        if state is DeliveryState.DELIVERED:
            self._delay.observe(delay_s)
