"""Taking moves: other candidates put in force for jobs, in a given order, while all bounds hold.

Theory of operation: moves are tried many at a time: a run of moves that breaks no bound is taken as
a whole, one that does is halved. A move that does not fit now never will, as slack only shrinks; so
after a refusal all such moves are dropped at once, and few checks of all bounds are needed. Jobs
that have no move are checked once, as the most that the work before them may grow.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import ROUNDING_S, Bounds
from scheduler.core.latency import FloatArray

IntArray = NDArray[np.int64]

RESOLUTION = 256
"""Of more moves than this, neighbors are taken or left together: a part in 250 of the whole."""
CROWD_SHARE = 0.05
"""Of so many moves, those that would take more than this share of a job's slack are left after a
refusal: little slack remains then, and finding the best use of it is not worth a search."""


def take_moves(bounds: Bounds, job: IntArray, candidate: IntArray) -> None:
    """Take moves in their order, leaving out those that would break a bound."""
    cost_s = bounds.costs_s(job, candidate)
    start_s = bounds.must_starts_s(job, candidate)
    alive = can_fit(bounds, job, cost_s, start_s) & is_offered(bounds, job, candidate)
    smallest = max(1, len(job) // RESOLUTION)
    line = _Line(bounds, job)
    ranges = [(0, len(job))]
    while ranges:
        low, high = ranges.pop()
        moves = low + np.flatnonzero(alive[low:high])
        if not moves.size:
            continue
        # Of several moves of a job the last one stands.
        last = np.full(len(line.jobs), -1)
        np.maximum.at(last, line.spots[moves], moves)
        spots = np.flatnonzero(last >= 0)
        taken = last[spots]
        if line.takes(spots, cost_s[taken], start_s[taken]):
            bounds.choose(line.jobs[spots], candidate[taken])
            continue
        if moves.size > smallest:
            middle = int(moves[moves.size // 2])
            ranges += [(middle, high), (low, middle)]
            continue
        alive[low:high] = False
        share = 1.0 if smallest == 1 else CROWD_SHARE
        alive[high:] &= can_fit(bounds, job[high:], cost_s[high:], start_s[high:], share)


class _Line:
    """Jobs that may move, with what the others between them allow.

    Attributes:
        jobs: Positions in the bounds, ascending.
        spots: Position in `jobs` of the job of each move.
    """

    def __init__(self, bounds: Bounds, job: IntArray) -> None:
        self.jobs, self.spots = np.unique(job, return_inverse=True)
        self._cost_s, self._start_s = bounds.cost_s[self.jobs], bounds.must_start_s[self.jobs]
        work_s = self._cost_s.cumsum()
        self._others_s = bounds.before_s()[self.jobs] - work_s + self._cost_s
        slack_s = bounds.slack_s()
        slack_s[self.jobs] = np.inf
        # Until the next one of these jobs, their work may grow by the least slack of the others.
        self._most_s = np.minimum.reduceat(slack_s, self.jobs) + work_s if job.size else work_s

    def takes(self, spots: IntArray, cost_s: FloatArray, start_s: FloatArray) -> bool:
        """Let these jobs move if all bounds hold then, and say whether they do."""
        costs_s, starts_s = self._cost_s.copy(), self._start_s.copy()
        costs_s[spots], starts_s[spots] = cost_s, start_s
        work_s = costs_s.cumsum()
        is_in_time = self._others_s + work_s - costs_s <= starts_s + ROUNDING_S
        if not (is_in_time & (work_s <= self._most_s + ROUNDING_S)).all():
            return False
        self._cost_s, self._start_s = costs_s, starts_s
        return True


def can_fit(
    bounds: Bounds, job: IntArray, cost_s: FloatArray, start_s: FloatArray, share: float = 1.0
) -> NDArray[np.bool_]:
    """Which moves, each alone, leave their job in time and take this share of slack at most."""
    added_s = cost_s - bounds.cost_s[job]
    is_harmless = added_s <= share * bounds.slack_behind_s()[job] + ROUNDING_S
    return np.asarray(is_harmless & (start_s >= bounds.before_s()[job] - ROUNDING_S))


def is_offered(bounds: Bounds, job: IntArray, candidate: IntArray) -> NDArray[np.bool_]:
    """Which candidates stay below the ceilings of these jobs."""
    tie = bounds.config.accuracy_tie
    return np.asarray(bounds.accuracies(job, candidate) <= bounds.ceiling[job] + tie)
