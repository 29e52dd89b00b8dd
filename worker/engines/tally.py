"""Counts what an engine does, for the refresh of its latency profile."""

import threading
from collections.abc import Sequence

from scheduler.core.refresh import EngineTotals
from worker.engines.base import BranchMetrics


class Tally:
    """Running totals of one engine, counted by its thread and read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps, self._busy_s = 0.0, 0.0
        self._rows, self._draft_tokens, self._context_tokens = 0.0, 0.0, 0.0
        self._prefills, self._prefill_tokens = 0, 0
        self._branches, self._completion_tokens = 0, 0
        self._drafted: list[int] = []
        self._accepted: list[int] = []

    def count_steps(
        self, steps: float, *, rows: int, draft_tokens: int, context_tokens: float
    ) -> None:
        """Count steps alike; the other arguments are of each of them, summed over its rows."""
        with self._lock:
            self._steps += steps
            self._rows += steps * rows
            self._draft_tokens += steps * draft_tokens
            self._context_tokens += steps * context_tokens

    def count_prefill(self, prompt_tokens: int) -> None:
        """Count the prefill of a prompt."""
        with self._lock:
            self._prefills += 1
            self._prefill_tokens += prompt_tokens

    def count_busy(self, seconds: float) -> None:
        """Count time in which rows were live or being started."""
        with self._lock:
            self._busy_s += seconds

    def count_branch(self, metrics: BranchMetrics) -> None:
        """Count a branch that ended, unless it never took a step."""
        if not metrics.num_steps:
            return
        with self._lock:
            self._branches += 1
            self._completion_tokens += metrics.completion_tokens
            _add(self._drafted, metrics.drafted_by_position)
            _add(self._accepted, metrics.accepted_by_position)

    def totals(self) -> EngineTotals:
        """All that was counted."""
        with self._lock:
            return EngineTotals(
                steps=self._steps,
                busy_s=self._busy_s,
                rows=self._rows,
                draft_tokens=self._draft_tokens,
                context_tokens=self._context_tokens,
                prefills=self._prefills,
                prefill_tokens=self._prefill_tokens,
                branches=self._branches,
                completion_tokens=self._completion_tokens,
                drafted=tuple(self._drafted),
                accepted=tuple(self._accepted),
            )


def _add(totals: list[int], counts: Sequence[int]) -> None:
    totals.extend([0] * (len(counts) - len(totals)))
    for position, count in enumerate(counts):
        totals[position] += count
