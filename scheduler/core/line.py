"""The order in which jobs get rows, once all have their plans.

Theory of operation: promised jobs stand in line by deadline. Best efforts bind none of them, so
they come behind all; but one that is due earlier gets more done in its own place by deadline. It
gets that where every promised job behind it, with the plan that is in force, can let pass the most
that it can take: one branch for each of its problems until its deadline.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, ROUNDING_S, Bounds
from scheduler.core.latency import FloatArray
from scheduler.core.lookup import entries
from scheduler.core.overtaking import Wait, passing_s

MAX_EFFORTS = 64
"""Best efforts, nearest deadline first, that a tick tries to put before promised jobs."""


class Line(NamedTuple):
    """Jobs by when they get rows.

    Attributes:
        order: Positions in the bounds.
        before_s, passing_s, spread_s: How each job waits, as in `Wait`, by position in the bounds.
    """

    order: NDArray[np.int64]
    before_s: FloatArray
    passing_s: FloatArray
    spread_s: FloatArray

    def wait(self, index: int) -> Wait:
        """How one job waits."""
        return Wait(
            float(self.before_s[index]), float(self.passing_s[index]), float(self.spread_s[index])
        )


def line_of(bounds: Bounds) -> Line:
    """The line of jobs that are placed, best efforts behind promised jobs in the bounds."""
    before_s = bounds.before_s().copy()
    place = np.where(bounds.is_last, len(bounds.jobs), 0.0) + np.arange(len(bounds.jobs))
    num_promised = int(bounds.table["is_promised"].sum())
    deadline_s, num_pending = bounds.table["deadline_s"], bounds.table["num_pending"]
    # Nobody passes a promised job that is late.
    slack_s = np.where(bounds.chosen == LATE, 0.0, bounds.slack_s())[:num_promised]
    ahead_s = before_s[:num_promised].copy()
    for effort in range(num_promised, min(len(bounds.jobs), num_promised + MAX_EFFORTS)):
        first = int(deadline_s[:num_promised].searchsorted(deadline_s[effort], side="right"))
        if first == num_promised:
            break
        left_s = max(float(bounds.time_left_s[effort] - ahead_s[first]), 0.0)
        work_s = left_s * min(float(num_pending[effort]) / bounds.rows, 1.0)
        if work_s <= slack_s[first:].min():
            place[effort] = first - 0.5
            # Others wait behind it, so it gets the plan of one that waits itself: one branch.
            before_s[effort] = max(float(ahead_s[first]), ROUNDING_S)
            slack_s[first:] -= work_s
            ahead_s[first:] += work_s
    before_s[:num_promised] = ahead_s
    each_s = _each_s(bounds)
    due_s = np.where(bounds.table["is_promised"], bounds.time_left_s, np.inf)
    spread_s = _spread_s(bounds)

    def passed_s(queue_s: FloatArray) -> FloatArray:
        return passing_s(queue_s, each_s, due_s, bounds.arrivals)

    last_passed_s = passed_s(before_s + _throughput_s(bounds))
    if bounds.arrivals.promised:
        first_passed_s = passed_s(np.maximum(before_s - spread_s, 0.0))
        spread_s = spread_s + last_passed_s - first_passed_s
    return Line(place.argsort(kind="stable"), before_s, last_passed_s, spread_s)


def _each_s(bounds: Bounds) -> FloatArray:
    """Seconds for which a problem of each job, planned densest, keeps all rows."""
    jobs = np.arange(len(bounds.jobs))
    seconds = bounds.costs_s(jobs, bounds.menus.densest[bounds.classes])
    return np.asarray(seconds / np.maximum(bounds.table["num_pending"], 1))


def _throughput_s(bounds: Bounds) -> FloatArray:
    """Seconds in which the problems of each job start, once it has rows; 0 if it is late."""
    starts_s = entries(bounds.menus.throughput_s, bounds.classes, bounds.chosen)
    return np.asarray(np.where(bounds.chosen == LATE, 0.0, starts_s))


def _spread_s(bounds: Bounds) -> FloatArray:
    """Seconds in which rows come free one by one for each job, before it could start whole."""
    wanted = bounds.table["num_pending"].cumsum() - bounds.table["num_pending"]
    first_s = bounds.held.ahead_of(bounds.table["deadline_s"], wanted)
    return np.asarray(bounds.running_s - first_s)
