"""Where jobs stand in the menus: their class, and the candidate that is their plan in force.

Theory of operation: both follow from a job's row in its columns and from the branches of others.
Rows never change and most jobs keep theirs from tick to tick, so what was found is kept by row,
under a lock: requests to one API process forecast jobs beside different others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from scheduler.core.tables import Gathered, Store

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found, by row of a store; `share` is -1 where nothing was."""

    store: Store
    share: IntArray
    classes: IntArray
    stored: IntArray


class Places:
    """Places of jobs in one menu."""

    def __init__(
        self,
        classes: Callable[[IntArray, IntArray], IntArray],
        find: Callable[[IntArray, IntArray], IntArray],
    ) -> None:
        """Look up by `Menus.classes` and `Menus.find`."""
        self._classes = classes
        self._find = find
        self._lock = Lock()
        self._known = _Known({}, *np.zeros((3, 0), dtype=np.int64))

    def of(self, columns: Gathered, shares: IntArray) -> tuple[IntArray, IntArray]:
        """Classes of jobs beside so many sixteenths of the rows in use by others, and candidates.

        Returns:
            Class and stored candidate of each job; -1 where its plan is no candidate.
        """
        at = columns.at
        with self._lock:
            known = self._known
            if known.store is not columns.store:
                shape = (3, len(columns.store["kind"]))
                known = self._known = _Known(columns.store, *np.full(shape, -1))
            fresh = np.flatnonzero(known.share[at] != shares)
            if fresh.size:
                rows = at[fresh]
                classes = self._classes(columns["kind"][fresh], shares[fresh])
                known.classes[rows] = classes
                known.stored[rows] = self._find(classes, columns["plan_code"][fresh])
                known.share[rows] = shares[fresh]
            return known.classes[at], known.stored[at]
