"""Watches an engine at work and says when its latency profile is no longer true."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from scheduler.core.latency import LatencyProfile
from scheduler.core.refresh import WINDOW_STEPS, EngineTotals, Refresh

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A profile to publish. `has_drifted`: the plans of now rest on a wrong one."""

    profile: LatencyProfile
    has_drifted: bool


class LiveProfile:
    """The profile of one engine over time. Used by one thread.

    Args:
        totals: Reads what the engine did since its start.
        fitted: The profile that the scheduler was told first.
    """

    def __init__(self, totals: Callable[[], EngineTotals], fitted: LatencyProfile) -> None:
        self._totals = totals
        self._refresh = Refresh.of(fitted)
        self._seen = totals()

    def due(self) -> Due | None:
        """Look at the engine; what to publish now, if anything. Asks again until it is told."""
        now = self._totals()
        window = now.since(self._seen)
        if window.steps >= WINDOW_STEPS:
            self._seen = now
            self._refresh = self._refresh.seen(window)
        if not self._refresh.is_due():
            return None
        profile = self._refresh.profile(datetime.now(UTC).isoformat(timespec="seconds"))
        return Due(profile, self._refresh.has_drifted)

    def told(self, due: Due) -> None:
        """The scheduler knows the profile now."""
        self._refresh = self._refresh.told(due.profile)
        log.info(
            "latency.refreshed",
            has_drifted=due.has_drifted,
            speed_ratio=round(self._refresh.speed_ratio, 3),
            residual_sigma=round(due.profile.residual_sigma, 3),
            acceptance=[round(value, 3) for value in due.profile.acceptance],
        )
