"""Which branches a batch runs: those of its plan, and further ones where a vote stays open."""

from collections.abc import Iterable

from worker.contests import Contest
from worker.engines.base import BranchMetrics


class Pace:
    """Seconds per token of a batch's branches, as they end."""

    def __init__(self) -> None:
        self._decode_time_s = 0.0
        self._num_tokens = 0

    def observe(self, metrics: BranchMetrics) -> None:
        """Count a branch that ended."""
        if metrics.first_token_at is not None:
            self._decode_time_s += (metrics.finished_at - metrics.first_token_at).total_seconds()
            self._num_tokens += metrics.completion_tokens - 1

    @property
    def tpot_s(self) -> float | None:
        """Mean so far; None before there is one."""
        return self._decode_time_s / self._num_tokens if self._num_tokens > 0 else None


def planned(contests: Iterable[Contest]) -> list[tuple[Contest, int]]:
    """Branches of the plan that no earlier batch finished, with their indexes, breadth first."""
    missing = [(contest, contest.missing) for contest in contests]
    depth = max((len(indexes) for _, indexes in missing), default=0)
    # Every problem gets its first vote before any gets its second.
    return [(c, indexes[i]) for i in range(depth) for c, indexes in missing if i < len(indexes)]


def extensions(
    contests: Iterable[Contest], free_rows: int, time_left_s: float, tpot_s: float
) -> list[tuple[Contest, int]]:
    """Problems, in the order given, that are to get further branches, with the branches' indexes.

    Args:
        free_rows: Rows that the batch was granted and does not use.
        time_left_s: Until the votes must be taken.
    """
    chosen: list[tuple[Contest, int]] = []
    for contest in contests:
        added = 0
        while contest.is_worth_more(
            added, free_rows=free_rows - len(chosen), time_left_s=time_left_s, tpot_s=tpot_s
        ):
            chosen.append((contest, contest.next_index + added))
            added += 1
    return chosen
