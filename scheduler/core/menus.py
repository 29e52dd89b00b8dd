"""The candidates of all jobs as stacked arrays, shared by jobs that are alike.

Theory of operation: forecasts of jobs that differ by a few problems or prompt tokens differ by as
much, so jobs are put in classes: problems and prompts are rounded up to a geometric ladder, and the
branches of others to a sixteenth of the rows. Costs are scaled back to the job's own number of
problems; finishes stay those of the rounded number, at most 3% late. A class is forecast once per
fleet; its candidates are sorted by P95 finish, so those that fit a limit are the first few. Among
these the *hull*, the plans on the upper concave envelope of accuracy over cost, is all that the
search for upgrades needs.

Everything here is a cache of pure functions of (pooled fleet, config, class), filled under a lock.
"""

from dataclasses import replace
from functools import lru_cache
from math import ceil, log
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.hulls import LEAST_COST, MAX_HULL, useful, walk_hulls
from scheduler.core.latency import FloatArray
from scheduler.core.planner import Candidates, candidates_of
from scheduler.core.snapshot import JobView

IntArray = NDArray[np.int64]

PROBLEM_STEP = 1.03
"""Ratio of neighboring numbers of problems on the ladder, where that is more than one problem."""
PROMPT_STEP = 1.2
"""Ratio of neighboring prompt lengths on the ladder; the KV cache and prefill depend on them."""
PER_PROMPT_STEP = 1.0 / log(PROMPT_STEP)
SHARES_OF_ROWS = 16
"""Steps in which the branches of other jobs are counted."""
NEVER_S = 1e300
"""Cost of a candidate that is not there."""
NO_CODE = np.iinfo(np.int64).max
MAX_CLASSES = 16384
"""Classes remembered by one menu."""


Kind = tuple[int, int, int, int | None, int | None, AnswerProfile | None]
"""What a class of jobs has in common, apart from the branches of others: problems, step of the
prompt length, branches and tokens at most, draft length in force, profile of its task family."""

_KINDS: dict[Kind, int] = {}
_KIND_JOBS: list[JobView] = []
_KINDS_LOCK = Lock()


def kind_id(job: JobView) -> int:
    """Number of the kind of a job with pending problems; numbers mean nothing across processes."""
    num_problems = rounded_up(job.num_pending)
    prompt_step = ceil(log(max(job.mean_prompt_tokens, 1.0)) * PER_PROMPT_STEP)
    draft = job.plan.num_speculative_tokens if job.plan else None
    kind = num_problems, prompt_step, job.max_branches, job.max_tokens, draft, job.answers
    found = _KINDS.get(kind)
    if found is not None:
        return found
    with _KINDS_LOCK:
        if kind not in _KINDS:
            prompt_tokens = PROMPT_STEP**prompt_step
            _KIND_JOBS.append(
                replace(job, num_pending=num_problems, mean_prompt_tokens=prompt_tokens)
            )
            _KINDS[kind] = len(_KIND_JOBS) - 1
        return _KINDS[kind]


@lru_cache(maxsize=65536)
def rounded_up(count: int) -> int:
    """The next number of problems on the ladder."""
    value = 1
    while value < count:
        value = max(value + 1, int(value * PROBLEM_STEP))
    return value


def plan_code(width: ArrayLike, draft: ArrayLike, cap: ArrayLike) -> IntArray:
    """What makes a plan a candidate, in one integer: the cap in the lower 32 bits."""
    high = np.asarray(width, dtype=np.int64) << 40 | np.asarray(draft, dtype=np.int64) << 32
    return np.asarray(high | np.asarray(cap, dtype=np.int64))


class Menus:
    """Candidates by class; arrays are (classes, candidates by P95), missing ones never fit.

    Attributes:
        options: The candidates themselves, by class.
        order: Position in `options` of each candidate.
        needed_s, row_seconds, accuracy: As in `Candidates`.
        code: The plan, see `plan_code`.
        is_useful: Candidates that none beats in finish, cost and accuracy at once.
        best_accuracy: (classes,); of the most accurate candidate.
        densest: (classes,); of all candidates the one with the most accuracy per row-second.
        cheapest: (classes, candidates + 1); the cheapest of the first so many, -1 of none.
    """

    def __init__(self, fleet: Fleet, config: SchedulerConfig) -> None:
        self._fleet = fleet
        self._config = config
        self._lock = Lock()
        self._class_of = np.full((0, SHARES_OF_ROWS + 1), -1)
        self._size = 0
        self.options: list[Candidates] = []
        self.order = np.zeros((0, 0), dtype=np.int64)
        self.needed_s = self.row_seconds = self.accuracy = np.zeros((0, 0))
        self.code = self._codes = self._code_order = np.zeros((0, 0), dtype=np.int64)
        self.is_useful = np.zeros((0, 0), dtype=bool)
        self.best_accuracy = np.zeros(0)
        self.densest = np.zeros(0, dtype=np.int64)
        self.cheapest = np.zeros((0, 1), dtype=np.int64)
        self._hull_of = np.zeros((0, 1), dtype=np.int64)
        self._hulls = np.zeros((0, MAX_HULL), dtype=np.int64)

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
                missing = np.unique(np.stack([kinds, shares], axis=1)[found < 0], axis=0)
                for kind, share in missing.tolist():
                    self._class_of[kind, share] = self._add(kind, share)
                found = self._class_of[kinds, shares]
            return np.asarray(found)

    def num_fitting(self, classes: IntArray, limit_s: FloatArray) -> IntArray:
        """How many candidates of these classes finish within these limits with 95%."""
        return _bisect(self.needed_s, classes, limit_s)

    def find(self, classes: IntArray, codes: IntArray) -> IntArray:
        """Candidates with these plans, -1 where a plan is none."""
        if not classes.size:
            return classes
        spot = np.maximum(_bisect(self._codes, classes, codes) - 1, 0)
        is_found = self._codes[classes, spot] == codes
        return np.asarray(np.where(is_found, self._code_order[classes, spot], -1))

    def hulls(self, classes: IntArray, num_fitting: IntArray) -> IntArray:
        """Hull vertices among the first so many candidates, from the cheapest up; -1 ends a row."""
        with self._lock:
            found = self._hull_of[classes, num_fitting]
            if (found < 0).any():
                pairs = np.unique(np.stack([classes, num_fitting], axis=1)[found < 0], axis=0)
                row, fitting = pairs.T
                allowed = self.is_useful[row] & (
                    np.arange(self.needed_s.shape[1]) < fitting[:, None]
                )
                made = walk_hulls(
                    self.row_seconds[row],
                    self.accuracy[row],
                    allowed,
                    self.cheapest[row, fitting],
                    self._config.accuracy_tie,
                )
                self._hull_of[row, fitting] = len(self._hulls) + np.arange(len(pairs))
                self._hulls = np.concatenate([self._hulls, made])
                found = self._hull_of[classes, num_fitting]
            return np.asarray(self._hulls[found])

    def _add(self, kind: int, share: int) -> int:
        others = share * self._fleet.rows / SHARES_OF_ROWS
        options = candidates_of(self._fleet, _KIND_JOBS[kind], self._config, others)
        order = np.lexsort((options.accuracy, options.row_seconds, options.needed_s))
        count, number = len(order), self._size
        self._reserve(number + 1, count)
        self.options.append(options)
        self.order[number, :count] = order
        self.needed_s[number, :count] = options.needed_s[order]
        self.row_seconds[number, :count] = cost = options.row_seconds[order]
        self.accuracy[number, :count] = accuracy = options.accuracy[order]
        self.best_accuracy[number] = accuracy.max()
        self.densest[number] = (accuracy / np.maximum(cost, LEAST_COST)).argmax()
        self.is_useful[number, :count] = useful(cost, accuracy)
        width, draft, cap = options.plans[order, :3].T
        self.code[number, :count] = code = plan_code(width, draft, cap)
        self._code_order[number, :count] = by_code = code.argsort()
        self._codes[number, :count] = code[by_code]
        best = -1
        for index, key in enumerate(zip(cost.tolist(), (-accuracy).tolist(), strict=True)):
            if best < 0 or key < (cost[best], -accuracy[best]):
                best = index
            self.cheapest[number, index + 1] = best
        self._size += 1
        return number

    def _reserve(self, classes: int, candidates: int) -> None:
        """Make room; rows that readers hold stay as they are."""
        old_rows, old_width = self.needed_s.shape
        if classes <= old_rows and candidates <= old_width:
            return
        shape = (
            max(2 * old_rows, classes, 64) if classes > old_rows else old_rows,
            max(old_width, candidates),
        )

        def grown(old: NDArray[Any], fill: float, extra: int = 0) -> NDArray[Any]:
            new = np.full((shape[0], shape[1] + extra), fill, dtype=old.dtype)
            new[: old.shape[0], : old.shape[1]] = old
            return new

        self.order = grown(self.order, -1)
        self.needed_s = grown(self.needed_s, np.inf)
        self.row_seconds = grown(self.row_seconds, NEVER_S)
        self.accuracy = grown(self.accuracy, 0.0)
        self.is_useful = grown(self.is_useful, False)
        self.code = grown(self.code, -1)
        self._codes = grown(self._codes, NO_CODE)
        self._code_order = grown(self._code_order, -1)
        self.best_accuracy = np.concatenate(
            [self.best_accuracy, np.zeros(shape[0] - len(self.best_accuracy))]
        )
        self.densest = np.concatenate(
            [self.densest, np.zeros(shape[0] - len(self.densest), dtype=np.int64)]
        )
        self.cheapest = grown(self.cheapest, -1, 1)
        self._hull_of = grown(self._hull_of, -1, 1)


_menus: dict[tuple[Fleet, SchedulerConfig], Menus] = {}


def menus_of(fleet: Fleet, config: SchedulerConfig) -> Menus:
    """The menus of a pooled fleet, remembered."""
    key = (fleet, config)
    found = _menus.get(key)
    if found is None or found.is_full:
        if len(_menus) >= 16:
            _menus.pop(next(iter(_menus)))
        found = _menus[key] = Menus(fleet, config)
    return found


def forget() -> None:
    """Start the memory anew, as in a new process."""
    _menus.clear()


def _bisect(table: NDArray[Any], rows: IntArray, values: NDArray[Any]) -> IntArray:
    """How many entries of these rows of an ascending table are up to these values."""
    low = np.zeros(len(rows), dtype=np.int64)
    high = np.full(len(rows), table.shape[1])
    while (low < high).any():
        middle = (low + high) // 2
        is_up_to = table[rows, np.minimum(middle, table.shape[1] - 1)] <= values
        is_open = low < high
        low = np.where(is_open & is_up_to, middle + 1, low)
        high = np.where(is_open & ~is_up_to, middle, high)
    return low
