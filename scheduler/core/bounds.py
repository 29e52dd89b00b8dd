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
from scheduler.core.fallback import fallback
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import pessimistic
from scheduler.core.latency import FloatArray
from scheduler.core.menus import SHARES_OF_ROWS, entries
from scheduler.core.overtaking import Wait
from scheduler.core.packed import Packed
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import NO_ARRIVALS, Arrivals, BatchView, JobView
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
        others = np.minimum(busy - table["wanted"], self.rows)
        shares = np.ceil(others * (SHARES_OF_ROWS / self.rows)).astype(np.int64)
        self.classes, self.stored = self.menus.places.of(table, shares)
        self.row_share = table["num_pending"] / table["num_rounded"] / self.rows
        self.chosen = np.full(len(self.jobs), LATE)
        self.cost_s = np.zeros(len(self.jobs))
        self._before_s: FloatArray | None = None
        self.must_start_s = np.full(len(self.jobs), np.inf)
        self.is_last = np.zeros(len(self.jobs), dtype=bool)
        self.ceiling = np.full(len(self.jobs), np.inf)
        self.is_open = np.ones(len(self.jobs), dtype=bool)

    @property
    def late(self) -> set[str]:
        """Jobs whose promises no plan keeps."""
        is_late = self.table["is_promised"] & (self.chosen == LATE)
        return {self.jobs[index].id for index in np.flatnonzero(is_late).tolist()}

    def options(self, index: int) -> Candidates:
        """The candidates of a job, with costs at its own number of problems."""
        options = self.menus.options[self.classes[index]]
        scaled: Candidates = replace(options, row_seconds=options.row_seconds * self._scale(index))
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

    def finish_s(self, last_s: FloatArray) -> FloatArray:
        """P95 finish of each job under its chosen plan, infinite if it is late.

        Args:
            last_s: As in `Wait`, of each job.
        """
        finish_s = last_s * self.stretch + entries(self.menus.p95_s, self.classes, self.chosen)
        return np.asarray(np.where(self.chosen == LATE, np.inf, np.minimum(finish_s, self.cut_s)))

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

    def item(self, index: int, wait: Wait | None = None, stays: Plan | None = None) -> Packed:
        """The chosen plan of one job with its forecast.

        Args:
            wait: For rows, as its place in line tells; by default for the jobs before it only.
            stays: The plan itself, when that is known already.
        """
        job, chosen = self.jobs[index], int(self.chosen[index])
        wait = wait or Wait(self.ahead_s(index))
        if chosen == LATE:
            left_s = float(self.time_left_s[index])
            late = fallback(
                self.fleet.pooled, job, self.config, time_left_s=left_s, ahead_s=wait.ahead_s
            )
            return Packed(job, *late, is_in_time=False)
        number = self.classes[index]
        original, options = int(self.menus.order[number, chosen]), self.menus.options[number]
        forecast = self.forecast(index, original, wait, float(self.cut_s[index]))
        return Packed(job, stays or options.plan(original), forecast, is_in_time=True)

    def forecast(self, index: int, option: int, wait: Wait, limit_s: float) -> Forecast:
        """What one of a job's options promises.

        Args:
            option: Position in `options`.
            wait: For rows.
            limit_s: Seconds until the deadline cuts what still runs.
        """
        options: Candidates = self.menus.options[self.classes[index]]
        return options.forecast(
            option,
            wait.last_s,
            wait.last_s * self.stretch,
            limit_s,
            self._scale(index),
            wait.spread_s,
        )

    def _scale(self, index: int) -> float:
        """Problems of the job over those that its class is forecast with."""
        return float(self.row_share[index] * self.rows)
