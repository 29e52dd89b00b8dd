"""Taking moves: other candidates put in force for jobs, in a given order, while all bounds hold.

Theory of operation: moves are tried many at a time: a run of moves that breaks no bound is taken as
a whole, one that does is halved. A move that does not fit now never will, as slack only shrinks; so
after a refusal all such moves are dropped at once, and few checks of all bounds are needed. Jobs
that may not move are looked at once, for the most that the work before them may grow.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, ROUNDING_S, Bounds
from scheduler.core.latency import FloatArray

IntArray = NDArray[np.int64]

RESOLUTION = 256
"""Of more moves than this, neighbors are taken or left together: a part in 250 of the whole."""
CROWD_SHARE = 0.05
"""Of so many moves, those that would take more than this share of a job's slack are left after a
refusal: little slack remains then, and finding the best use of it is not worth a search."""


class Moves(NamedTuple):
    """Candidates to put in force, as parallel arrays.

    Attributes:
        spot: Position among the movers.
        cost_s, must_start_s: Of the job under the candidate, as in `Bounds`.
        start_s: Seconds before which the rows must be free for the move.
        is_possible: Whether the move alone breaks no bound and stays below the job's ceiling.
    """

    spot: IntArray
    candidate: IntArray
    cost_s: FloatArray
    must_start_s: FloatArray
    start_s: FloatArray
    is_possible: NDArray[np.bool_]

    def take(self, order: IntArray) -> "Moves":
        """The moves at these positions."""
        return Moves._make(values[order] for values in self)


class Movers:
    """Jobs that may move, with what the others between them allow."""

    def __init__(self, bounds: Bounds, jobs: IntArray) -> None:
        """Start with the plans in force.

        Args:
            jobs: Positions in the bounds, ascending.
        """
        self._bounds = bounds
        self._jobs = jobs
        self._cost_s, self._start_s = bounds.cost_s[jobs], bounds.must_start_s[jobs]
        work_s, before_s = self._cost_s.cumsum(), bounds.before_s()
        self._others_s = before_s[jobs] - work_s + self._cost_s
        slack_s = bounds.must_start_s - before_s
        slack_s[jobs] = np.inf
        # Until the next one of these jobs, their work may grow by the least slack of the others.
        self._most_s = np.minimum.reduceat(slack_s, jobs) + work_s

    def moves(self, spot: IntArray, candidate: IntArray, *, are_kept: bool = False) -> Moves:
        """These candidates for the jobs at these positions.

        Args:
            are_kept: They were chosen before and need not fit with all that their accuracy counts.
        """
        job = self._jobs[spot]
        cost_s = self._bounds.costs_s(job, candidate)
        must_start_s = self._bounds.must_starts_s(job, candidate)
        start_s = must_start_s if are_kept else self._bounds.fitting_starts_s(job, candidate)
        fits = self._can_fit(spot, cost_s, start_s)
        is_possible = fits & is_offered(self._bounds, job, candidate)
        return Moves(spot, candidate, cost_s, must_start_s, start_s, is_possible)

    def take(self, moves: Moves) -> None:
        """Take moves in their order, leaving out those that would break a bound."""
        spot, candidate, cost_s, must_start_s, start_s, is_possible = moves
        alive = is_possible.copy()
        chosen = np.full(len(self._jobs), LATE)
        smallest = max(1, len(spot) // RESOLUTION)
        ranges, refused = [(0, len(spot))], -1
        while ranges:
            low, high = ranges.pop()
            some = low + np.flatnonzero(alive[low:high])
            if not some.size:
                continue
            # With the first half taken, the second one is the whole, which was refused; that jobs
            # need less to keep a plan than to move to it is passed over.
            if high != refused:
                # Of several moves of a job the last one stands.
                last = np.full(len(self._jobs), -1)
                np.maximum.at(last, spot[some], some)
                moved = np.flatnonzero(last >= 0)
                taken = last[moved]
                if self._move(moved, cost_s[taken], start_s[taken]):
                    self._start_s[moved] = must_start_s[taken]
                    chosen[moved] = candidate[taken]
                    continue
            if some.size > smallest:
                middle = int(some[some.size // 2])
                ranges += [(middle, high), (low, middle)]
                refused = high
                continue
            alive[low:high], refused = False, -1
            share = 1.0 if smallest == 1 else CROWD_SHARE
            later = high + np.flatnonzero(alive[high:])
            alive[later] = self._can_fit(spot[later], cost_s[later], start_s[later], share)
        moved = np.flatnonzero(chosen != LATE)
        self._bounds.choose(self._jobs[moved], chosen[moved])

    def _move(self, spots: IntArray, cost_s: FloatArray, start_s: FloatArray) -> bool:
        """Let these jobs move if all bounds hold then, and say whether they do."""
        costs_s, starts_s = self._cost_s.copy(), self._start_s.copy()
        costs_s[spots], starts_s[spots] = cost_s, start_s
        work_s = costs_s.cumsum()
        is_in_time = self._others_s + work_s - costs_s <= starts_s + ROUNDING_S
        if not (is_in_time & (work_s <= self._most_s + ROUNDING_S)).all():
            return False
        self._cost_s, self._start_s = costs_s, starts_s
        return True

    def _can_fit(
        self, spot: IntArray, cost_s: FloatArray, start_s: FloatArray, share: float = 1.0
    ) -> NDArray[np.bool_]:
        """Which moves, each alone, leave their job in time and take this share of slack at most."""
        work_s = self._cost_s.cumsum()
        before_s = self._others_s + work_s - self._cost_s
        slack_s = np.append((self._start_s - before_s)[1:], np.inf)
        behind_s = np.minimum.accumulate(np.minimum(self._most_s - work_s, slack_s)[::-1])[::-1]
        added_s = cost_s - self._cost_s[spot]
        is_harmless = added_s <= share * behind_s[spot] + ROUNDING_S
        return np.asarray(is_harmless & (start_s >= before_s[spot] - ROUNDING_S))


def is_offered(bounds: Bounds, job: IntArray, candidate: IntArray) -> NDArray[np.bool_]:
    """Which candidates stay below the ceilings of these jobs."""
    tie = bounds.config.accuracy_tie
    return np.asarray(bounds.accuracies(job, candidate) <= bounds.ceiling[job] + tie)
