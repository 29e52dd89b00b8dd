"""Which best efforts get no rows while others wait for them.

Theory of operation: shortly before its deadline the plan that still fits into the time of a best
effort may be a bound of a few dozen tokens, in which hardly a branch answers. Every problem is then
read and begun for next to nothing, on rows and in steps of others. So an effort whose plan earns
much less per row-second than its densest plan would, and answers less, goes without, unless
nobody else waits.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import Bounds
from scheduler.core.hulls import LEAST_COST
from scheduler.core.packed import Packed
from scheduler.core.placing import draws

LEAST_YIELD = 0.7
"""Accuracy per row-second, over that of the densest plan, below which an effort is in vain. Chosen
by hand: at 120% load 0.1, 0.5, 0.7 and 1.0 gained 1.4, 2.1, 3.4 and 2.9 points (`LOG.md`)."""
MAX_WEIGHED = 32
"""Efforts that a tick plans and gives rows, drawn among all where there are more: each is planned
by itself, which takes a millisecond. Drawn, because those due first may all be in vain."""


def weighed(bounds: Bounds) -> NDArray[np.bool_]:
    """Which jobs may get rows in this tick: all with a promise, and so many efforts."""
    efforts = np.flatnonzero(~bounds.table["is_promised"])
    is_weighed = np.ones(len(bounds.jobs), dtype=bool)
    if len(efforts) > MAX_WEIGHED:
        order = draws(bounds.table["digest"][efforts], bounds.now_s).argsort(kind="stable")
        is_weighed[efforts[order[MAX_WEIGHED:]]] = False
    return is_weighed


def is_in_vain(bounds: Bounds, index: int, item: Packed) -> bool:
    """Whether this is a best effort whose rows would answer too little."""
    if item.is_in_time or item.job.is_promised:
        return False
    menus, own = bounds.menus, bounds.classes[index]
    densest = menus.densest[own]
    best = menus.accuracy[own, densest] / max(menus.row_seconds[own, densest], LEAST_COST)
    cost = max(item.forecast.row_seconds / bounds.scale(index), LEAST_COST)
    accuracy = item.forecast.accuracy
    # A wide plan on idle rows earns little per row-second, too, but answers more.
    return bool(accuracy / cost < LEAST_YIELD * best and accuracy < menus.accuracy[own, densest])
