"""The best plans of few jobs together: dynamic programming over the work done.

Theory of operation: in order of deadline, whether a candidate fits depends only on the work before
it. So of all choices for the first jobs, only those on the frontier of value against work can be
part of a best whole. The frontier is extended job by job and thinned to `FRONTIER` points of nearly
even work; each point keeps its exact work, so bounds hold exactly, and thinning is all that is
inexact. Where greedy upgrades block one another, with few jobs of large steps, this finds what
they miss. Values are weighted accuracies in steps of `accuracy_tie`: of equals the cheaper stays.

Jobs of other tenants keep their plans: shares are settled by fair queueing.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, ROUNDING_S, Bounds
from scheduler.core.latency import FloatArray

IntArray = NDArray[np.int64]

MAX_JOBS = 12
"""Jobs up to which it is worth its time: with more, one step weighs little in the whole."""
FRONTIER = 256
"""Points kept; on random cases more hardly change the total."""


def improve(bounds: Bounds) -> None:
    """Put the best plans found for each tenant's jobs in force."""
    in_time = bounds.chosen != LATE
    for tenant in np.unique(bounds.table["tenant"][in_time]):
        is_free = in_time & (bounds.table["tenant"] == tenant)
        best = _best(bounds, is_free)
        if best is not None:
            jobs = np.flatnonzero(in_time)
            bounds.choose(jobs, best[jobs])


def _best(bounds: Bounds, is_free: NDArray[np.bool_]) -> IntArray | None:
    """Candidates of all jobs; only those of free jobs may differ from the chosen ones."""
    work, value = np.zeros(1), np.zeros(1)
    trail: list[tuple[IntArray, IntArray]] = []
    for index in range(len(bounds.jobs)):
        candidates, cost_s, start_s, gain = _choices(bounds, index, bool(is_free[index]))
        is_allowed = work[:, None] + bounds.running_s[index] <= start_s + ROUNDING_S
        point, choice = np.nonzero(is_allowed)
        if not point.size:
            # Thinning lost the chosen plans themselves.
            return None
        work, value = work[point] + cost_s[choice], value[point] + gain[choice]
        kept = _frontier(work, value)
        work, value = work[kept], value[kept]
        trail.append((point[kept], candidates[choice[kept]]))
    found = np.empty(len(bounds.jobs), dtype=np.int64)
    at = len(work) - 1
    for index in range(len(bounds.jobs) - 1, -1, -1):
        point, candidates = trail[index]
        found[index] = candidates[at]
        at = int(point[at])
    is_better = value[-1] > sum(
        _values(bounds, index, bounds.chosen[[index]])[0]
        for index in np.flatnonzero(is_free).tolist()
    )
    return found if is_better else None


def _choices(
    bounds: Bounds, index: int, is_free: bool
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Candidates of a job with their cost, latest start and value."""
    if not is_free:
        one = bounds.chosen[[index]]
        return one, bounds.cost_s[[index]], bounds.must_start_s[[index]], np.zeros(1)
    row = bounds.classes[index]
    is_worth = bounds.menus.is_useful[row] & (
        bounds.menus.accuracy[row] <= bounds.ceiling[index] + bounds.config.accuracy_tie
    )
    is_worth[bounds.chosen[index]] = True
    candidates = np.flatnonzero(is_worth)
    job = np.full(len(candidates), index)
    return (
        candidates,
        bounds.costs_s(job, candidates),
        np.where(
            candidates == bounds.chosen[index],
            bounds.must_start_s[index],
            bounds.fitting_starts_s(job, candidates),
        ),
        _values(bounds, index, candidates),
    )


def _values(bounds: Bounds, index: int, candidates: IntArray) -> FloatArray:
    accuracy = bounds.menus.accuracy[bounds.classes[index], candidates]
    return np.asarray(bounds.values[index] * np.floor(accuracy / bounds.config.accuracy_tie))


def _frontier(work: FloatArray, value: FloatArray) -> IntArray:
    """Points that none with less work equals in value, at most `FRONTIER`, work ascending."""
    cell = (work * (FRONTIER / max(float(work.max()), 1e-300))).astype(np.int64)
    # Most valuable point of each cell, of equals the one with the least work.
    order = np.lexsort((work, -value, cell))
    first = order[np.flatnonzero(np.diff(cell[order], prepend=-1))]
    best_before = np.maximum.accumulate(np.append(-np.inf, value[first][:-1]))
    return np.asarray(first[value[first] > best_before])
