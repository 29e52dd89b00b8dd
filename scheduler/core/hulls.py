"""Upper concave envelopes of accuracy over cost: the only plans worth upgrading through.

Theory of operation: from the cheapest plan the next vertex is the one with the most accuracy per
added row-second (gift wrapping), so the rates of the steps of one job fall, and taking steps of all
jobs in order of their rates is the greedy solution of the relaxed knapsack. All hulls are wrapped
at once. One with more vertices than are kept ends with a step over the rest, to the most accurate.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.latency import FloatArray

IntArray = NDArray[np.int64]

MAX_HULL = 16
"""Vertices kept at most; each gains more than `accuracy_tie` over the one before."""
LEAST_COST = 1e-9
"""Row-seconds that a step counts with at least, so that free gains come first."""


def walk_hulls(
    cost: FloatArray,
    accuracy: FloatArray,
    allowed: NDArray[np.bool_],
    start: IntArray,
    tie: float,
) -> IntArray:
    """Vertices of each row's hull.

    Args:
        cost, accuracy, allowed: (rows, candidates).
        start: First vertex of each row, the cheapest; -1 for an empty hull.
        tie: Gains up to this are no gain.

    Returns:
        (rows, MAX_HULL) positions of vertices, costs ascending; -1 ends a row.
    """
    hulls = np.full((len(start), MAX_HULL), -1)
    hulls[:, 0] = start
    open_rows = np.flatnonzero(start >= 0)
    at = start[open_rows]
    cost = cost[open_rows]
    accuracy = np.where(allowed, accuracy, -np.inf)[open_rows]
    for step in range(1, MAX_HULL):
        if not open_rows.size:
            break
        which = np.arange(len(open_rows))
        gain = accuracy - accuracy[which, at][:, None]
        added = cost - cost[which, at][:, None]
        rate = np.where(gain > tie, gain / np.maximum(added, LEAST_COST), -np.inf)
        if step == MAX_HULL - 1:
            # The last vertex is the most accurate plan, whatever is left out before it.
            most = np.maximum(tie, gain.max(axis=1, keepdims=True) - tie)
            rate = np.where(gain > most, 1.0 / np.maximum(added, LEAST_COST), -np.inf)
        at = rate.argmax(axis=1)
        more = rate[which, at] > 0
        if not more.all():
            open_rows, at, cost, accuracy = open_rows[more], at[more], cost[more], accuracy[more]
        hulls[open_rows, step] = at
    return hulls


def useful(cost: FloatArray, accuracy: FloatArray) -> NDArray[np.bool_]:
    """Candidates, by the seconds they need, that no earlier one beats in both cost and accuracy."""
    better = (cost[None, :] <= cost[:, None]) & (accuracy[None, :] >= accuracy[:, None])
    # The first better one, itself at the latest; of equals the first stays.
    return np.asarray(better.argmax(axis=1) == np.arange(len(cost)))
