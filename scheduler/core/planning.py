"""The plans of one model's jobs in one tick, and what becomes of a job that cannot be planned.

Theory of operation: jobs are packed and stored plans settled all at once; `Packed` values are built
only for jobs that are handed out or change, which are few among thousands. An exception while
planning is an error of this program or of a profile. It must not keep the other jobs from their
deadlines: each job is then tried by itself, those that fail are reported and left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import JobPlanned, PlanFailure, PlanReason
from scheduler.core.efforts import is_in_vain, weighed
from scheduler.core.fleet import Fleet
from scheduler.core.line import Line, line_of
from scheduler.core.outlook import finishes_s, packed
from scheduler.core.packed import Packed
from scheduler.core.packing import place_on_rows
from scheduler.core.plan_codes import is_similar
from scheduler.core.settling import REASONS, settle
from scheduler.core.snapshot import NO_ARRIVALS, Arrivals, BatchView, JobView
from scheduler.core.upgrades import upgrade

RELATIVE_REFRESH = 0.05
"""Error of a stored finish that is left alone, as a share of the time left."""


@dataclass
class Planned:
    """Plans in force for jobs in order of deadline."""

    bounds: Bounds | None
    reasons: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    failures: list[PlanFailure] = field(default_factory=list)
    _items: dict[int, Packed] = field(default_factory=dict)

    @cached_property
    def line(self) -> Line:
        """The order in which its jobs get rows."""
        assert self.bounds is not None
        return line_of(self.bounds)

    def in_line(self) -> Iterator[Packed]:
        """Jobs in the order in which they get rows, built as they are asked for.

        Best efforts that would use them in vain are there only when nobody else is, and of many
        efforts some have to wait for another tick.
        """
        if self.bounds is None:
            return
        in_vain: list[Packed] = []
        is_wanted = False
        order = self.line.order
        for index in order[weighed(self.bounds)[order]].tolist():
            item = self.item(index)
            if item is None:
                continue
            if is_in_vain(self.bounds, index, item):
                in_vain.append(item)
            else:
                is_wanted = True
                yield item
        if not is_wanted:
            yield from in_vain

    def decisions(self) -> list[JobPlanned]:
        """Plans that change, and stored forecasts that went stale; call it after `in_line`.

        Late jobs that were not reached in line keep what is stored: their fallback is chosen when
        they get rows.
        """
        if self.bounds is None:
            return []
        for index in np.flatnonzero((self.reasons > 0) & (self.bounds.chosen != LATE)).tolist():
            self.item(index)
        stale = self._stale()
        items = sorted((index, item) for index, item in self._items.items())
        return [
            JobPlanned(item.job.id, item.plan, item.forecast, item.reason, item.job.part)
            for index, item in items
            if item.plan != item.job.plan
        ] + [
            JobPlanned(item.job.id, item.plan, item.forecast, part=item.job.part)
            for item in map(self.item, stale)
            if item is not None and item.plan == item.job.plan
        ]

    def _stale(self) -> list[int]:
        """Jobs whose stored P95 finish is off, nearest deadline first."""
        assert self.bounds is not None
        bounds, config = self.bounds, self.bounds.config
        predicted_s = bounds.table["predicted_s"] - bounds.now_s
        off_s = np.abs(predicted_s - finishes_s(bounds, self.line.before_s + self.line.passing_s))
        allowed_s = np.maximum(config.refresh_s, RELATIVE_REFRESH * bounds.time_left_s)
        is_stale = (off_s > allowed_s) & (bounds.chosen != LATE)
        return [int(index) for index in np.flatnonzero(is_stale)[: config.max_refreshed]]

    def item(self, index: int) -> Packed | None:
        """The plan in force of one job; None when it cannot be forecast."""
        assert self.bounds is not None
        if index not in self._items:
            job, reason = self.bounds.jobs[index], REASONS[self.reasons[index]]
            try:
                # A plan like the stored one counts as it, wave size included.
                stays = None if reason else job.plan
                item = packed(self.bounds, index, self.line.wait(index), stays)
            except Exception as error:
                self.failures.append(_failure(job, error))
                return None
            self._items[index] = _in_force(item, reason)
        return self._items[index]


def plan_jobs(
    fleet: Fleet,
    jobs: Sequence[JobView],
    batches: Sequence[BatchView],
    now: datetime,
    config: SchedulerConfig,
    arrivals: Arrivals = NO_ARRIVALS,
) -> Planned:
    """Plan the jobs of one fleet; a stored plan stays unless a change pays.

    Args:
        jobs: Jobs with pending problems and time to answer them.
        batches: Live batches of the fleet.
        arrivals: Of problems of the model.
    """
    if not jobs:
        return Planned(None)
    try:
        return _plan(fleet, jobs, batches, now, config, arrivals)
    except Exception as error:
        failures = _culprits(fleet, jobs, now, config)
        faulty = {failure.job_id for failure in failures}
        rest = [job for job in jobs if job.id not in faulty]
        if not faulty:
            # No job by itself is to blame, so none is spared.
            return Planned(None, failures=[_failure(job, error) for job in jobs])
        planned = plan_jobs(fleet, rest, batches, now, config, arrivals)
        planned.failures += failures
        return planned


def _plan(
    fleet: Fleet,
    jobs: Sequence[JobView],
    batches: Sequence[BatchView],
    now: datetime,
    config: SchedulerConfig,
    arrivals: Arrivals = NO_ARRIVALS,
) -> Planned:
    bounds = place_on_rows(
        fleet, jobs, batches, now, config, arrivals, num_reviewed=config.num_reviewed
    )
    upgrade(bounds)
    return Planned(bounds, settle(bounds))


def _culprits(
    fleet: Fleet, jobs: Sequence[JobView], now: datetime, config: SchedulerConfig
) -> list[PlanFailure]:
    """Jobs that cannot even be planned alone."""
    failures = []
    for job in jobs:
        try:
            _plan(fleet, [job], [], now, config)
        except Exception as error:
            failures.append(_failure(job, error))
    return failures


def _failure(job: JobView, error: Exception) -> PlanFailure:
    return PlanFailure(job.id, f"{type(error).__name__}: {error}")


def _in_force(item: Packed, reason: PlanReason | None) -> Packed:
    stored = item.job.plan
    if item.is_in_time:
        return item if reason is None else replace(item, reason=reason)
    if stored is None:
        return replace(item, reason=PlanReason.FIRST_PLAN)
    if is_similar(stored, item.plan):
        return replace(item, plan=stored)
    is_promised = item.job.is_promised
    reason = PlanReason.DEADLINE_AT_RISK if is_promised else PlanReason.BEST_EFFORT
    return replace(item, reason=reason)
