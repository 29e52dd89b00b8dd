"""The candidates of all jobs as stacked arrays, shared by jobs that are alike.

Theory of operation: a class is a kind of jobs (`kinds`) with the branches of others, rounded up to
a sixteenth of the rows. Costs are scaled back to the job's own number of problems; finishes stay
those of the rounded number, at most 3% late. A class is forecast once per fleet; its candidates are
sorted by the seconds they need, so those that fit a limit are the first few. Among these the
*hull*, the plans on the upper concave envelope of accuracy over cost, is all that the search for
upgrades needs.

Everything here is a cache of pure functions of (pooled fleet, config, class), filled under a lock.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scheduler.core.candidates import Candidates
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.hulls import LEAST_COST, MAX_HULL, useful, walk_hulls
from scheduler.core.kinds import Kind
from scheduler.core.latency import FloatArray
from scheduler.core.lookup import bisect
from scheduler.core.offers import all_candidates
from scheduler.core.places import Places
from scheduler.core.plan_codes import NO_CODE, plan_code

IntArray = NDArray[np.int64]

SHARES_OF_ROWS = 16
"""Steps in which the branches of other jobs are counted."""
NEVER_S = 1e300
"""Cost of a candidate that is not there."""
MAX_CLASSES = 16384
"""Classes remembered by one menu."""
MAX_HULLS = 262_144
"""Hulls remembered by one menu, 32 MiB; as deadlines near, each class meets many of them."""
LEAST_CLASSES = 64
MANY_CLASSES = 1024
"""With more of them there is room for `MAX_CLASSES`: to copy what is there takes long then."""


class Menus:
    """Candidates by class; arrays are (classes, candidates by needed_s), missing ones never fit.

    Attributes:
        options: The candidates themselves, by class.
        order: Position in `options` of each candidate.
        needed_s, kept_s, p95_s, throughput_s, row_seconds, accuracy: As in `Candidates`.
        code: The plan, see `plan_code`.
        is_useful: Candidates that none beats in finish, cost and accuracy at once.
        best_accuracy: (classes,); of the most accurate candidate.
        densest: (classes,); of all candidates the one with the most accuracy per row-second.
        branch_cost: (classes,); row-seconds of one whole branch for each problem.
        cheapest: (classes, candidates + 1); the cheapest of the first so many, -1 of none.
        cheapest_narrow: The same among those that are `Candidates.is_narrow`.
        places: Classes and candidates of jobs.
    """

    def __init__(self, fleet: Fleet, config: SchedulerConfig, kinds: Sequence[Kind]) -> None:
        """Start without classes.

        Args:
            kinds: By number; more may be appended.
        """
        self._fleet = fleet
        self._config = config
        self._kinds = kinds
        self._lock = Lock()
        self._class_of = np.full((0, SHARES_OF_ROWS + 1), -1)
        self._size = 0
        self.options: list[Candidates] = []
        self.order = self._code_order = np.zeros((0, 0), dtype=np.int16)
        self.needed_s = self.kept_s = self.row_seconds = self.accuracy = np.zeros((0, 0))
        self.p95_s = self.throughput_s = np.zeros((0, 0))
        self.code = self._codes = np.zeros((0, 0), dtype=np.int64)
        self.is_useful = np.zeros((0, 0), dtype=bool)
        self.best_accuracy = np.zeros(0)
        self.densest = np.zeros(0, dtype=np.int64)
        self.branch_cost = np.zeros(0)
        self.cheapest = self.cheapest_narrow = np.zeros((0, 1), dtype=np.int16)
        self._useful = np.zeros((0, 0), dtype=np.int16)
        self._hull_of = np.zeros((0, 1), dtype=np.int32)
        self._hulls = np.zeros((1, MAX_HULL), dtype=np.int64)
        self._num_hulls = 0
        self.places = Places(self.classes, self.find)

    @property
    def is_full(self) -> bool:
        """Whether it is time for a new one."""
        return self._size > MAX_CLASSES

    def classes(self, kinds: IntArray, shares: IntArray) -> IntArray:
        """Classes of jobs of these kinds beside so many sixteenths of the rows in use by others."""
        with self._lock:
            if kinds.size and len(self._class_of) <= kinds.max():
                grown = np.full((2 * int(kinds.max()) + 1, SHARES_OF_ROWS + 1), -1)
                grown[: len(self._class_of)] = self._class_of
                self._class_of = grown
            found = self._class_of[kinds, shares]
            if (found < 0).any():
                width = self._class_of.shape[1]
                missing = np.unique((kinds * width + shares)[found < 0])
                self._add(*np.divmod(missing, width))
                found = self._class_of[kinds, shares]
            return np.asarray(found)

    def num_fitting(self, classes: IntArray, limit_s: FloatArray) -> IntArray:
        """How many candidates of these classes finish within these limits with 95%."""
        return bisect(self.needed_s, classes, limit_s)

    def find(self, classes: IntArray, codes: IntArray) -> IntArray:
        """Candidates with these plans, -1 where a plan is none."""
        if not classes.size:
            return classes
        spot = np.maximum(bisect(self._codes, classes, codes) - 1, 0)
        is_found = self._codes[classes, spot] == codes
        return np.asarray(np.where(is_found, self._code_order[classes, spot], -1))

    def hulls(self, classes: IntArray, num_fitting: IntArray) -> IntArray:
        """Hull vertices among the first so many candidates, from the cheapest up; -1 ends a row."""
        with self._lock:
            found = self._hull_of[classes, num_fitting]
            if self._num_hulls > MAX_HULLS and (found < 0).any():
                self._hull_of[: self._size] = -1
                self._num_hulls = 0
                found = self._hull_of[classes, num_fitting]
            if (found < 0).any():
                width = self._hull_of.shape[1]
                pairs = np.unique((classes * width + num_fitting)[found < 0])
                row, fitting = divmod(pairs, width)
                # Not all candidates are useful; the cheapest of any first so many is.
                useful = self._useful[row, : max(1, fitting.max())]
                is_there = (useful >= 0) & (useful < fitting[:, None])
                most = max(1, int(is_there.sum(axis=1).max()))
                useful, is_there = useful[:, :most], is_there[:, :most]
                start = (useful == self.cheapest[row, fitting][:, None]).argmax(axis=1)
                made = walk_hulls(
                    self.row_seconds[row[:, None], useful],
                    self.accuracy[row[:, None], useful],
                    is_there,
                    np.where(fitting > 0, start, -1),
                    self._config.accuracy_tie,
                )
                made = np.where(made < 0, -1, np.take_along_axis(useful, made, axis=1))
                end = self._num_hulls + len(pairs)
                if end > len(self._hulls):
                    self._hulls = np.resize(self._hulls, (2 * end, MAX_HULL))
                self._hulls[self._num_hulls : end] = made
                self._hull_of[row, fitting] = np.arange(self._num_hulls, end)
                self._num_hulls = end
                found = self._hull_of[classes, num_fitting]
            return np.asarray(self._hulls[found])

    def _add(self, kinds: IntArray, shares: IntArray) -> None:
        """Add classes that are not there yet."""
        others = shares * (self._fleet.rows / SHARES_OF_ROWS)
        specimens = [self._kinds[kind].specimen() for kind in kinds.tolist()]
        made = all_candidates(self._fleet, specimens, self._config, others.tolist())
        first = self._size
        self._reserve(first + len(made), max(len(options.needed_s) for options in made))
        for options in made:
            self._append(options)
        self._class_of[kinds, shares] = np.arange(first, self._size)

    def _append(self, options: Candidates) -> None:
        order = np.lexsort((options.accuracy, options.row_seconds, options.needed_s))
        count, number = len(order), self._size
        self.options.append(options)
        self.order[number, :count] = order
        self.needed_s[number, :count] = options.needed_s[order]
        self.kept_s[number, :count] = options.kept_s[order]
        self.p95_s[number, :count] = options.p95_s[order]
        self.throughput_s[number, :count] = options.throughput_s[order]
        self.row_seconds[number, :count] = cost = options.row_seconds[order]
        self.accuracy[number, :count] = accuracy = options.accuracy[order]
        self.best_accuracy[number] = accuracy.max()
        self.densest[number] = (accuracy / np.maximum(cost, LEAST_COST)).argmax()
        self.branch_cost[number] = options.branch_cost
        self.is_useful[number, :count] = is_useful = useful(cost, accuracy)
        kept = np.flatnonzero(is_useful)
        self._useful[number, : len(kept)] = kept
        self.code[number, :count] = code = plan_code(options.plans[order])
        self._code_order[number, :count] = by_code = code.argsort()
        self._codes[number, :count] = code[by_code]
        by_cost = np.lexsort((-accuracy, cost))
        place = by_cost.argsort()
        self.cheapest[number, 1 : count + 1] = by_cost[np.minimum.accumulate(place)]
        narrow = np.where(options.is_narrow[order], place, count)
        self.cheapest_narrow[number, 1 : count + 1] = np.append(by_cost, -1)[
            np.minimum.accumulate(narrow)
        ]
        self._size += 1

    def _reserve(self, classes: int, candidates: int) -> None:
        """Make blank rows for new classes; rows that readers hold stay as they are.

        Memory that no row uses yet is never touched, so it costs nothing to ask for much at once.
        """
        used, (num_rows, width) = self._size, self.needed_s.shape
        is_short = classes > num_rows or candidates > width
        if classes > num_rows:
            least = LEAST_CLASSES if classes <= MANY_CLASSES else MAX_CLASSES
            num_rows = max(2 * num_rows, classes, least)

        def blank(old: NDArray[Any], fill: float, columns: int | None = None) -> NDArray[Any]:
            new = old
            if is_short:
                new = np.empty((num_rows, columns or max(width, candidates)), dtype=old.dtype)
                new[:used, : old.shape[1]] = old[:used]
                new[:used, old.shape[1] :] = fill
            new[used:classes] = fill
            return new

        self.order = blank(self.order, -1)
        self.needed_s = blank(self.needed_s, np.inf)
        self.kept_s = blank(self.kept_s, np.inf)
        self.p95_s = blank(self.p95_s, np.inf)
        self.throughput_s = blank(self.throughput_s, 0.0)
        self.row_seconds = blank(self.row_seconds, NEVER_S)
        self.accuracy = blank(self.accuracy, 0.0)
        self.is_useful = blank(self.is_useful, False)
        self._useful = blank(self._useful, -1)
        self.code = blank(self.code, -1)
        self._codes = blank(self._codes, NO_CODE)
        self._code_order = blank(self._code_order, -1)
        self.cheapest = blank(self.cheapest, -1, 1 + self.needed_s.shape[1])
        self.cheapest_narrow = blank(self.cheapest_narrow, -1, 1 + self.needed_s.shape[1])
        self._hull_of = blank(self._hull_of, -1, 1 + self.needed_s.shape[1])
        self.best_accuracy = blank(self.best_accuracy[:, None], 0.0, 1)[:, 0]
        self.densest = blank(self.densest[:, None], 0, 1)[:, 0]
        self.branch_cost = blank(self.branch_cost[:, None], 0.0, 1)[:, 0]


def shares_of(branches: FloatArray, rows: int) -> IntArray:
    """These branches in sixteenths of the rows, rounded up."""
    return np.asarray(np.ceil(branches * (SHARES_OF_ROWS / rows)).astype(np.int64))
