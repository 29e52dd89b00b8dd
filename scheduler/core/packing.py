"""Sharing one model's rows among jobs: plans under demand bounds, then batches onto workers.

Theory of operation: jobs take the rows in order of deadline, so a job waits for the work of those
before it and for the branches that run already. Every job must finish in time at the 95th
percentile behind that work (the demand bound of earliest-deadline-first, Baruah et al. 1990, with
a drain). First every job gets its cheapest plan that fits; then the upgrade with the most weighted
accuracy per row-second is applied, over and over, as long as all bounds hold. A job that fits no
plan gets a fallback and no longer binds the others.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.commitments import Commitments
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import PlanReason
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Forecast, Plan
from scheduler.core.planner import candidates_of, fallback, pessimistic
from scheduler.core.snapshot import BatchView, JobView


@dataclass(frozen=True, slots=True)
class Packed:
    """The plan chosen for a job; `is_in_time` is False for a fallback.

    Attributes:
        reason: Why the plan differs from the stored one; None while it does not.
    """

    job: JobView
    plan: Plan
    forecast: Forecast
    is_in_time: bool
    reason: PlanReason | None = None


class Bounds:
    """Jobs of one fleet in order of deadline, each with a chosen candidate, and their slack."""

    def __init__(
        self,
        fleet: Fleet,
        jobs: Sequence[JobView],
        batches: Sequence[BatchView],
        now: datetime,
        config: SchedulerConfig,
        extra_branches: int = 0,
    ) -> None:
        """Give every job its cheapest plan that fits.

        Args:
            batches: Live batches of the fleet.
            extra_branches: Branches of jobs not listed, which fill rows otherwise left free.
        """
        self.fleet = fleet
        self.config = config
        self.jobs = sorted(jobs, key=deadline_order)
        self.time_left_s = np.array([(j.deadline_at - now).total_seconds() for j in self.jobs])
        self.held = Commitments(fleet, batches, now)
        self.running_s = np.array([self.held.ahead_s(job.deadline_at) for job in self.jobs])
        wanted = [j.num_pending * (j.plan.num_branches if j.plan else 1) for j in self.jobs]
        busy = sum(wanted) + self.held.open_branches + extra_branches
        self.options = [
            candidates_of(fleet, job, config, other_branches=float(busy - own))
            for job, own in zip(self.jobs, wanted, strict=True)
        ]
        self.rows = fleet.rows
        self.stretch = pessimistic(fleet, 1.0)
        self.chosen: list[int | None] = []
        # Seconds before which the rows must be free for the chosen plan; infinite if it is late.
        self.must_start_s = np.full(len(self.jobs), np.inf)
        self.cost_s = np.zeros(len(self.jobs))
        for index in range(len(self.jobs)):
            self._choose_cheapest(index)

    def ahead_s(self, index: int) -> float:
        """Expected seconds of work before the job at this position."""
        return float(self.running_s[index] + self.cost_s[:index].sum())

    def fits(self, index: int, ahead_s: float) -> NDArray[np.bool_]:
        """Which candidates of the job finish in time behind this much work."""
        limit_s = self.time_left_s[index] - self.config.reserve_s - ahead_s * self.stretch
        return np.asarray(self.options[index].p95_s <= limit_s)

    def slack_s(self) -> FloatArray:
        """Seconds of further work that each job can let pass before it; infinite if it is late."""
        before = self.running_s + self.cost_s.cumsum() - self.cost_s
        return np.asarray(self.must_start_s - before)

    def choose(self, index: int, candidate: int) -> None:
        """Put a candidate in force."""
        self.chosen[index] = candidate
        self.cost_s[index] = self.options[index].row_seconds[candidate] / self.rows
        limit_s = float(self.time_left_s[index]) - self.config.reserve_s
        own_s = float(self.options[index].p95_s[candidate])
        self.must_start_s[index] = (limit_s - own_s) / self.stretch

    def packed(self) -> list[Packed]:
        """The chosen plans, in order of deadline."""
        result = []
        for index, (job, chosen) in enumerate(zip(self.jobs, self.chosen, strict=True)):
            ahead_s = self.ahead_s(index)
            options = self.options[index]
            if chosen is None:
                left_s = float(self.time_left_s[index])
                late = fallback(self.fleet, job, self.config, time_left_s=left_s, ahead_s=ahead_s)
                result.append(Packed(job, *late, is_in_time=False))
                continue
            forecast = options.forecast(chosen, ahead_s, ahead_s * self.stretch)
            result.append(Packed(job, options.plan(chosen), forecast, is_in_time=True))
        return result

    def _choose_cheapest(self, index: int) -> None:
        ahead_s = self.ahead_s(index)
        options = self.options[index]
        allowed = np.flatnonzero(self.fits(index, ahead_s))
        self.chosen.append(None)
        if allowed.size:
            cost, accuracy = options.row_seconds[allowed], options.accuracy[allowed]
            self.choose(index, int(allowed[np.lexsort((-accuracy, cost))[0]]))
            return
        # What does not fit before the deadline is not run, so it delays nobody.
        left_s = max(float(self.time_left_s[index]) - ahead_s, 0.0)
        self.cost_s[index] = min(float(options.row_seconds.min()) / self.rows, left_s)


def pack(bounds: Bounds) -> list[Packed]:
    """Upgrade from the cheapest plans while every bound holds; plans in order of deadline."""
    slack_s = bounds.slack_s()
    queue: list[tuple[float, int, int]] = []
    for index in range(len(bounds.jobs)):
        _offer(bounds, slack_s, index, queue)
    while queue:
        _, index, candidate = heapq.heappop(queue)
        if _is_allowed(bounds, slack_s, index)[candidate]:
            bounds.choose(index, candidate)
            slack_s = bounds.slack_s()
        _offer(bounds, slack_s, index, queue)
    for index, chosen in enumerate(bounds.chosen):
        if chosen is not None:
            # Steps of the greedy pass may end beside an equally accurate, cheaper plan.
            best = bounds.options[index].best(_is_allowed(bounds, slack_s, index), bounds.config)
            if best is not None:
                bounds.choose(index, best)
                slack_s = bounds.slack_s()
    return bounds.packed()


def _is_allowed(bounds: Bounds, slack_s: FloatArray, index: int) -> NDArray[np.bool_]:
    """Candidates that keep the job and all later ones in time."""
    options = bounds.options[index]
    added_s = options.row_seconds / bounds.rows - bounds.cost_s[index]
    tightest = float(slack_s[index + 1 :].min(initial=np.inf))
    # An unchanged plan is always allowed, though rounding may leave a slack of -1e-12.
    harmless = (added_s <= tightest) | (added_s <= 0.0)
    return np.asarray(bounds.fits(index, bounds.ahead_s(index)) & harmless)


def _offer(
    bounds: Bounds, slack_s: FloatArray, index: int, queue: list[tuple[float, int, int]]
) -> None:
    """Queue the job's upgrade with the most weighted accuracy per row-second."""
    chosen = bounds.chosen[index]
    if chosen is None:
        return
    options = bounds.options[index]
    gain = options.accuracy - options.accuracy[chosen]
    useful = np.flatnonzero(
        _is_allowed(bounds, slack_s, index) & (gain > bounds.config.accuracy_tie)
    )
    if not useful.size:
        return
    cost = options.row_seconds[useful] - options.row_seconds[chosen]
    rate = bounds.jobs[index].weight * gain[useful] / np.maximum(cost, 1e-9)
    best = int(rate.argmax())
    heapq.heappush(queue, (-float(rate[best]), index, int(useful[best])))


def deadline_order(job: JobView) -> tuple[datetime, datetime, str]:
    """Earliest deadline first, then first come, then by id so that the order is total."""
    return (job.deadline_at, job.created_at, job.id)
