"""What rows are worth to problems that come later, told by what came of late.

Theory of operation: where arrivals want all rows, a row-second is worth `row_price` times what it
earns at best. Where they want less it is worth a share of that, which falls as a power: next to
nothing while they leave rows free. See decision 33.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import Bounds
from scheduler.core.hulls import LEAST_COST
from scheduler.core.latency import FloatArray
from scheduler.core.menus import SHARES_OF_ROWS
from scheduler.core.packed import Packed

IntArray = NDArray[np.int64]

CROWDED = 1.2
"""Rows that arrivals want, over all rows, from which on a row is worth `row_price` times what it
earns at best: a little more than all, as votes are decided early and jobs come in bursts."""
STEEPNESS = 6
"""Power by which the worth of rows falls where arrivals want less. With 1.0 and 4 two branches did
not pay at 30% load on GPQA, where the best fixed split has two. Both were chosen by hand and hold
against `tests/benchmarks/prices.py`."""


def wanted_rows(bounds: Bounds, jobs: IntArray) -> FloatArray:
    """Share of all rows, all of them busy, that arrivals fill with one branch of each problem.

    Args:
        jobs: Whose problems those that come are like; what came of a job itself does not count.
    """
    menus, table = bounds.menus, bounds.table
    # Idle engines are several times as fast as busy ones.
    crowded = menus.classes(table["kind"][jobs], np.full(len(jobs), SHARES_OF_ROWS))
    each_s = menus.branch_cost[crowded] / table["num_rounded"][jobs]
    return np.asarray(bounds.others_per_s(jobs) * each_s / bounds.rows)


def share_of_price(as_much: FloatArray) -> FloatArray:
    """Worth of a row-second over that of one which arrivals need, if they want so many rows."""
    return np.asarray(np.minimum(as_much / CROWDED, 1.0) ** STEEPNESS)


def densities(bounds: Bounds, jobs: IntArray) -> FloatArray:
    """Accuracy per row-second of the densest plan of each of these jobs."""
    menus, classes = bounds.menus, bounds.classes[jobs]
    dense = menus.densest[classes]
    cost = np.maximum(menus.row_seconds[classes, dense], LEAST_COST)
    return np.asarray(menus.accuracy[classes, dense] / cost)


def pays(bounds: Bounds, index: int, effort: Packed) -> bool:
    """Whether a best effort earns with its rows at least what they are worth to jobs to come."""
    jobs, forecast = np.array([index]), effort.forecast
    price = share_of_price(wanted_rows(bounds, jobs)) * densities(bounds, jobs)
    cost = max(forecast.row_seconds / bounds.scale(index), LEAST_COST)
    return bool(forecast.accuracy / cost >= bounds.config.row_price * price[0])
