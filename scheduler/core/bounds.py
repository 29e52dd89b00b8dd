"""Demand bounds: which plans of all jobs of one model finish in time behind one another.

Theory of operation: jobs take the rows in order of deadline, so a job waits for the work of those
before it and for the branches that run already. Every job must finish in time at the 95th
percentile behind that work (the demand bound of earliest-deadline-first, Baruah et al. 1990, with
a drain). A plan is chosen where all fits that its accuracy counts, which may take longer. How jobs
come to their first plans is told in `placing`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.candidates import Candidates
from scheduler.core.columns import jobs_table
from scheduler.core.commitments import Commitments
from scheduler.core.config import SchedulerConfig
from scheduler.core.deadline_order import in_deadline_order
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import pessimistic
from scheduler.core.latency import FloatArray
from scheduler.core.lookup import entries
from scheduler.core.menus import shares_of
from scheduler.core.snapshot import (
    ARRIVAL_WINDOW_S,
    NO_ARRIVALS,
    Arrivals,
    BatchView,
    JobView,
)
from scheduler.core.stopping import CUT_SHARE

IntArray = NDArray[np.int64]

LATE = -1
"""Stands for the candidate of a job that none fits."""
ROUNDING_S = 1e-9


class Bounds:
    """Jobs of one fleet in order of deadline, each with a chosen candidate, and their slack.

    Arrays are over jobs. Candidates of a job are positions in its menu, sorted by `needed_s`.

    Attributes:
        chosen: Candidate in force, `LATE` when none fits.
        others: Branches of other jobs, at most all rows.
        row_share: Seconds of the fleet over row-seconds of the job's class.
        cost_s: Seconds for which its expected work keeps the fleet's rows.
        must_start_s: Seconds before which the rows must be free; infinite for late jobs.
        is_last: Late jobs that go behind all others.
        limit_s: Seconds within which it has to finish with 95%.
        due_s: Those until its deadline, less the reserve.
        cut_s: Seconds until the deadline cuts what still runs of it.
        ceiling: Accuracy beyond which a job gets no better plan.
        values: What its accuracy counts for: its weight times its pending problems.
        stored: Candidate that is the plan in force, -1 when it is none.
        is_open: Jobs that may get another plan; those that may not have the stored one.
    """

    def __init__(
        self,
        fleet: Fleet,
        jobs: Sequence[JobView],
        batches: Sequence[BatchView],
        now: datetime,
        config: SchedulerConfig,
        extra_branches: int = 0,
        arrivals: Arrivals = NO_ARRIVALS,
    ) -> None:
        """Start without plans; see `placing`.

        Args:
            batches: Live batches of the fleet.
            extra_branches: Branches of jobs not listed, which fill rows otherwise left free.
            arrivals: Of problems of the model.
        """
        self.fleet = fleet
        self.config = config
        unordered = jobs_table(jobs)
        self.jobs = unordered.take(in_deadline_order(unordered))
        self.table = table = self.jobs.columns
        self.now_s = now.timestamp()
        self.time_left_s: FloatArray = table["deadline_s"] - self.now_s
        self.limit_s = self.due_s = self.time_left_s - config.reserve_s
        self.cut_s: FloatArray = self.time_left_s - CUT_SHARE * config.reserve_s
        self.held = Commitments(fleet, batches, now)
        self.rows = fleet.rows
        self.values: FloatArray = table["weight"] * table["num_pending"]
        self.arrivals = arrivals
        self.running_s = self.held.ahead_of(table["deadline_s"], table["num_pending"].cumsum())
        self.stretch = pessimistic(fleet, 1.0)
        self.menus = self.jobs.owner.menus(fleet.pooled, config)
        busy = table["wanted"].sum() + self.held.open_branches + extra_branches
        self.others = np.minimum(busy - table["wanted"], self.rows)
        self.classes, self.stored = self.menus.places.of(table, shares_of(self.others, self.rows))
        self.row_share = table["num_pending"] / table["num_rounded"] / self.rows
        self.chosen = np.full(len(self.jobs), LATE)
        self.cost_s = np.zeros(len(self.jobs))
        self._before_s: FloatArray | None = None
        self.must_start_s = np.full(len(self.jobs), np.inf)
        self.is_last = np.zeros(len(self.jobs), dtype=bool)
        self.ceiling = np.full(len(self.jobs), np.inf)
        self.is_open = np.ones(len(self.jobs), dtype=bool)

    @property
    def late(self) -> set[tuple[str, int]]:
        """Keys of jobs whose promises no plan keeps."""
        is_late = self.table["is_promised"] & (self.chosen == LATE)
        return {self.jobs[index].key for index in np.flatnonzero(is_late).tolist()}

    def options(self, index: int) -> Candidates:
        """The candidates of a job, with costs at its own number of problems."""
        options = self.menus.options[self.classes[index]]
        scaled: Candidates = replace(options, row_seconds=options.row_seconds * self.scale(index))
        return scaled

    def before_s(self) -> FloatArray:
        """Expected seconds of work before each job; not to be written to."""
        if self._before_s is None:
            self._before_s = self.running_s + self.cost_s.cumsum() - self.cost_s
            self._before_s.flags.writeable = False
        return self._before_s

    def ahead_s(self, index: int) -> float:
        """Expected seconds of work before the job at this position."""
        return float(self.before_s()[index])

    def fits(self, index: int, ahead_s: float) -> NDArray[np.bool_]:
        """Which of the job's options finish in time behind this much work."""
        limit_s = self.limit_s[index] - ahead_s * self.stretch
        return np.asarray(self.menus.options[self.classes[index]].needed_s <= limit_s)

    def slack_s(self) -> FloatArray:
        """Seconds of further work that each job can let pass before it; infinite if it is late."""
        return np.asarray(self.must_start_s - self.before_s())

    def slack_behind_s(self) -> FloatArray:
        """Seconds by which each job's cost may grow before a later job is late."""
        least = np.minimum.accumulate(self.slack_s()[::-1])[::-1]
        return np.append(least[1:], np.inf)

    def costs_s(self, jobs: IntArray, candidates: IntArray) -> FloatArray:
        """Costs of candidates of these jobs; candidates may have one axis more than jobs."""
        jobs = jobs.reshape(jobs.shape + (1,) * (candidates.ndim - jobs.ndim))
        seconds = entries(self.menus.row_seconds, self.classes[jobs], candidates)
        return np.asarray(seconds * self.row_share[jobs])

    def must_starts_s(self, jobs: IntArray, candidates: IntArray) -> FloatArray:
        """`must_start_s` under candidates of these jobs; shapes as in `costs_s`."""
        return self._starts_s(self.limit_s, self.menus.kept_s, jobs, candidates)

    def fitting_starts_s(self, jobs: IntArray, candidates: IntArray) -> FloatArray:
        """Seconds before which the rows must be free to choose them; shapes as in `costs_s`."""
        starts_s = self._starts_s(self.due_s, self.menus.needed_s, jobs, candidates)
        return np.minimum(starts_s, self.must_starts_s(jobs, candidates))

    def _starts_s(
        self, limit_s: FloatArray, own_s: FloatArray, jobs: IntArray, candidates: IntArray
    ) -> FloatArray:
        jobs = jobs.reshape(jobs.shape + (1,) * (candidates.ndim - jobs.ndim))
        own_s = entries(own_s, self.classes[jobs], candidates)
        return np.asarray((limit_s[jobs] - own_s) / self.stretch)

    def accuracies(self, jobs: IntArray, candidates: IntArray) -> FloatArray:
        """Expected accuracies of candidates of these jobs; shapes as in `costs_s`."""
        jobs = jobs.reshape(jobs.shape + (1,) * (candidates.ndim - jobs.ndim))
        return entries(self.menus.accuracy, self.classes[jobs], candidates)

    def needed_s(self) -> FloatArray:
        """Seconds within which each job's chosen plan finishes with 95%; infinite if it is late."""
        finish_s = self.limit_s - self.slack_s() * self.stretch
        return np.asarray(np.where(self.chosen == LATE, np.inf, finish_s))

    def limit(self, limit_s: FloatArray) -> None:
        """Measure slack against other limits from now on."""
        self.must_start_s += (limit_s - self.limit_s) / self.stretch
        self.limit_s = limit_s

    def choose(self, jobs: IntArray, candidates: IntArray) -> None:
        """Put candidates in force, one for each of these jobs."""
        self.chosen[jobs] = candidates
        self.wait_for(jobs, self.costs_s(jobs, candidates))
        self.must_start_s[jobs] = self.must_starts_s(jobs, candidates)

    def give_up(self, jobs: IntArray) -> None:
        """Leave these jobs without a plan, late and without cost."""
        self.chosen[jobs], self.must_start_s[jobs] = LATE, np.inf
        self.wait_for(jobs, np.zeros(len(jobs)))

    def wait_for(self, jobs: IntArray, cost_s: FloatArray) -> None:
        """Let the jobs behind these wait for so much work of each of them."""
        self.cost_s[jobs] = cost_s
        self._before_s = None

    def others_per_s(self, jobs: IntArray) -> FloatArray:
        """Problems that come per second, without those of each of these jobs."""
        is_recent = self.now_s - self.table["created_s"][jobs] < ARRIVAL_WINDOW_S
        own = np.where(is_recent, self.table["num_problems"][jobs], 0)
        arrivals = self.arrivals
        return np.asarray(np.maximum(arrivals.problems_per_s - own / arrivals.over_s, 0.0))

    def scale(self, index: int) -> float:
        """Problems of the job over those that its class is forecast with."""
        return float(self.row_share[index] * self.rows)
