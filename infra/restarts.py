"""Policy of restarting a child that died; pure functions of the instants of its deaths."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead child comes back, and when it is hopeless.

    Attributes:
        max_deaths: This many deaths within `window_s` end the whole run.
        window_s: How long a death counts against the child.
        first_delay_s: Pause before the first restart; doubles with each further death. Short,
            because jobs with deadlines of a minute wait for it.
        max_delay_s: Bound of the pause.
    """

    max_deaths: int = 5
    window_s: float = 60.0
    first_delay_s: float = 0.2
    max_delay_s: float = 5.0

    def recent(self, deaths: Sequence[float], now: float) -> list[float]:
        """Deaths that still count at `now`; instants are monotonic seconds."""
        return [at for at in deaths if now - at <= self.window_s]

    def restart_delay_s(self, deaths: Sequence[float], now: float) -> float | None:
        """Seconds to wait before the next start, None to give up.

        Args:
            deaths: Instants of all deaths so far, the latest included.
        """
        num_recent = len(self.recent(deaths, now))
        if num_recent >= self.max_deaths:
            return None
        return min(self.first_delay_s * 2.0 ** max(num_recent - 1, 0), self.max_delay_s)
