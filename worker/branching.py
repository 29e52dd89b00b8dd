"""Which branches a batch runs: those of its plan at first, and those that follow them."""

from collections.abc import Iterable

from scheduler.core.stopping import may_follow
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


def following(contest: Contest, *, time_left_s: float, tpot_s: float) -> tuple[list[int], int]:
    """The indexes of branches that are to follow those that ended, and how many may later.

    Args:
        time_left_s, tpot_s: As in `may_follow`.
    """
    plan = contest.plan
    # By index and not by votes: branches that the engine fails are not replaced for ever.
    num_more, running = len(contest.spare), len(contest.running)
    if (
        not contest.problem.solve
        or not contest.ballot.num_finished
        or not may_follow(
            plan,
            contest.answers,
            num_started=plan.max_branches - num_more,
            time_left_s=time_left_s,
            tpot_s=tpot_s,
        )
    ):
        return [], 0
    is_open = contest.num_undecided == running and not contest.is_over(running + num_more)
    number = max(min(plan.num_branches - running, num_more), 0) if is_open else 0
    return contest.spare[:number], num_more - number
