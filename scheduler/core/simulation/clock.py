"""Virtual time: a heap of what happens when."""

import heapq
from collections.abc import Callable


class Clock:
    """Moves from event to event; events of one instant happen in the order of their planning."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._num_planned = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, at_s: float, happen: Callable[[], None]) -> None:
        """Plan an event, at once if its time has passed."""
        self._num_planned += 1
        heapq.heappush(self._events, (max(at_s, self.now_s), self._num_planned, happen))

    def run(self) -> None:
        """Let everything happen, what is planned meanwhile too."""
        while self._events:
            self.now_s, _, happen = heapq.heappop(self._events)
            happen()
