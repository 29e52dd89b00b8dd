"""Sorting problems of each difficulty into equally likely kinds of lengths.

Theory of operation: problems count for a difficulty by how likely they have it or one near it.
Sorted by level they fall into bins of equal weight, and each bin into the halves of its problems
that are narrow and wide below their medians: the shortest of many branches depends on that most. A
kind is the mean of its problems in logs; with arithmetic means of lengths every kind came out
longer than most of its problems, and tight caps cut too many branches.
"""

import numpy as np

from scheduler.core.accuracy import LEVELS
from scheduler.core.latency import FloatArray
from scheduler.core.mixture import Mixture

NEIGHBORS = 1.5
"""Grid steps of difficulty over which problems count as alike, as a standard deviation."""
POINTS_PER_LEVEL = 20


def kinds_of(
    mixture: Mixture, rest: FloatArray, log_spread: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Levels and log spreads of the kinds of each difficulty.

    Args:
        rest: Level of each problem; (problems,).
        log_spread: Below and above the median; (2, problems).

    Returns:
        (difficulties, kinds) and (2, difficulties, kinds).
    """
    num, size = mixture.by_difficulty.shape
    order = np.argsort(rest, kind="stable")
    steps = np.arange(size)
    alike = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / NEIGHBORS) ** 2)
    # One problem's worth of all problems keeps difficulties that were not seen defined.
    weights = mixture.by_difficulty @ alike + 1.0 / num  # (problems, difficulties)
    points = (np.arange(LEVELS * POINTS_PER_LEVEL) + 0.5) / (LEVELS * POINTS_PER_LEVEL)
    rows, spreads = [], []
    for weight in weights[order].T:
        ends = np.cumsum(weight) / weight.sum()
        middle = ends - 0.5 * weight / weight.sum()
        levels = np.interp(points, middle, rest[order]).reshape(LEVELS, -1).mean(axis=1)
        members = order[np.minimum(np.searchsorted(ends, points), num - 1)].reshape(LEVELS, -1)
        by_lower = np.take_along_axis(members, log_spread[0, members].argsort(axis=1), axis=1)
        halves = log_spread[:, by_lower].reshape(2, LEVELS, 2, -1).mean(axis=3)
        rows.append(np.repeat(levels, 2))
        spreads.append(halves.reshape(2, -1))
    return np.stack(rows), np.stack(spreads, axis=1)
