"""Whether a new job can be promised its deadline.

Theory of operation: the promise holds when the job's cheapest plan finishes in time behind the
work due before it, and every job due after it still finishes with its own cheapest plan behind the
new one. Jobs that are already late bind nobody.

Tenants: a part of the time until any deadline, `tenant_headroom`, is kept for tenants below their
share. A tenant whose own work, pending and under way, fills more than its share of the time is
refused what would reach into it, so one that submits without end cannot keep the others out; alone,
or while there is room, it may use all the rest.

Best effort: a job that cannot be promised may be taken without a promise. It gets what the others
leave, and is refused only where its branches in free rows would slow one of them beyond its bound.

Limits: until it has a plan, a new job slows the others by one branch for each problem. If it gets
more and little time is left, they may need some of its rows back, and it less accurate a plan.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from scheduler.core.bounds import Bounds
from scheduler.core.columns import batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import is_to_plan, serving
from scheduler.core.decisions import Admitted, Rejected, RejectReason
from scheduler.core.fleet import alive_workers, fleets_by_model
from scheduler.core.forecast import pessimistic
from scheduler.core.line import line_of
from scheduler.core.losses import NO_LOSS, losses
from scheduler.core.outlook import packed
from scheduler.core.packing import place_on_rows
from scheduler.core.placing import place
from scheduler.core.snapshot import BatchView, JobView, Snapshot
from scheduler.core.upgrades import upgrade

MARGIN_S = 0.01
"""Added to the earliest finish, so that a deadline set to it is not refused for rounding."""
MAX_ROUNDS = 8
"""Bound on the search for a consistent finish at one rank."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A verdict and the bounds behind it; `bounds` is None when nobody serves the model."""

    verdict: Admitted | Rejected
    bounds: Bounds | None


def admit(
    snapshot: Snapshot, job: JobView, config: SchedulerConfig, *, best_effort: bool = False
) -> Admitted | Rejected:
    """Admit or refuse a job that is not in the snapshot yet.

    Args:
        job: The new job, all its problems pending, at least one.
        best_effort: Take it without a promise when none can be given.
    """
    return weigh(snapshot, job, config, best_effort=best_effort).verdict


def weigh(
    snapshot: Snapshot, job: JobView, config: SchedulerConfig, *, best_effort: bool = False
) -> Weighed:
    """`admit`, with what its verdict rests on."""
    # The next tick will count it, and plan by that what is promised here.
    return weigh_arrived(snapshot.with_arrival(job), job, config, best_effort=best_effort)


def weigh_arrived(
    snapshot: Snapshot, job: JobView, config: SchedulerConfig, *, best_effort: bool
) -> Weighed:
    """`weigh` for a job that is among the arrivals."""
    now = snapshot.now
    alive = alive_workers(snapshot.workers, now, config)
    fleet = fleets_by_model(alive).get(job.model)
    if fleet is None:
        return Weighed(Rejected(RejectReason.NO_CAPACITY, earliest_finish_s=None), None)
    batches = batches_table(snapshot.batches)
    batches = serving(batches.take(losses(batches, alive, now) == NO_LOSS), job.model)
    jobs = jobs_table([*snapshot.jobs, job])
    is_other = is_to_plan(jobs, job.model, now, config)
    is_other[-1] = False
    others = jobs.take(is_other)
    everyone = jobs.take(np.append(np.flatnonzero(is_other), len(jobs) - 1))
    arrivals = snapshot.arrivals_of(job.model)

    def placed(jobs: Sequence[JobView], extra_branches: int = 0) -> Bounds:
        """What planning would make of these jobs."""
        return place_on_rows(
            fleet, jobs, batches, now, config, arrivals, extra_branches=extra_branches
        )

    def on_all_rows(jobs: Sequence[JobView], extra_branches: int = 0) -> Bounds:
        return place(Bounds(fleet, jobs, batches, now, config, extra_branches, arrivals))

    without_job, with_job = placed(others), placed(everyone)
    # It fits, and no other that fits without it stops to fit.
    if with_job.late <= without_job.late:
        own_share = _own_share(batches, snapshot.jobs, job.tenant_id)
        earliest_s = _until_headroom_s(with_job, job, own_share)
        if earliest_s is not None and with_job.rows < fleet.rows:
            # Rows left unused for the sake of speed are headroom too.
            earliest_s = _until_headroom_s(on_all_rows(everyone), job, own_share)
        if earliest_s is None:
            return _admitted(with_job, job)
    else:
        with_job, beside_job = on_all_rows(everyone), on_all_rows(others, job.num_pending)
        slowed = beside_job.late - without_job.late
        earliest_s = _earliest_finish_s(with_job, beside_job, job, slowed, now)
    if best_effort:
        beside_full_rows = placed(others, extra_branches=fleet.rows)
        if beside_full_rows.late <= without_job.late:
            effort = replace(job, is_promised=False)
            return _admitted(placed([*others, effort]), effort)
    return Weighed(Rejected(RejectReason.DEADLINE_INFEASIBLE, earliest_s), with_job)


def _admitted(bounds: Bounds, job: JobView) -> Weighed:
    """The verdict on a job that is taken, with its plan among all others."""
    upgrade(bounds)
    index = bounds.jobs.index(job)
    chosen = packed(bounds, index, line_of(bounds).wait(index))
    wanted = job.min_accuracy
    is_below = wanted is not None and chosen.forecast.accuracy < wanted
    admitted = Admitted(
        chosen.plan,
        chosen.forecast,
        degraded=is_below or not job.is_promised,
        is_promised=job.is_promised,
    )
    return Weighed(admitted, bounds)


def _own_share(batches: Sequence[BatchView], jobs: Sequence[JobView], tenant_id: str) -> float:
    """Share of the open branches of live batches that are a tenant's."""
    own_jobs = {job.id for job in jobs if job.tenant_id == tenant_id}
    own = sum(batch.num_open_branches for batch in batches if batch.job_id in own_jobs)
    return own / max(sum(batch.num_open_branches for batch in batches), 1)


def _until_headroom_s(bounds: Bounds, job: JobView, own_share: float) -> float | None:
    """None when the job leaves the headroom of other tenants, else a deadline by which it would.

    Args:
        own_share: Of the work that live batches hold, what is its tenant's.
    """
    config, index = bounds.config, bounds.jobs.index(job)
    is_own = bounds.table["tenant"] == bounds.table["tenant"][index]
    pending_s = np.where(is_own, bounds.cost_s, 0.0).cumsum()
    own_s = (own_share * bounds.running_s + pending_s)[index:]
    all_s = (bounds.before_s() + bounds.cost_s)[index:]
    # Work that may be done until each job's deadline, its own included, so that it is in time.
    room_s = (bounds.must_start_s + bounds.cost_s)[index:]
    used = 1.0 - config.tenant_headroom
    is_crowded = (all_s > used * room_s) & (own_s > job.tenant_share * room_s)
    if not is_crowded.any():
        return None
    options = bounds.options(index)
    cheapest = int(options.row_seconds.argmin())
    cost_s = float(options.row_seconds[cheapest]) / bounds.rows
    after_all_s = float(bounds.before_s()[-1] + bounds.cost_s[-1] - bounds.cost_s[index]) + cost_s
    must_start_s = after_all_s / used - cost_s
    least_s = must_start_s * bounds.stretch + float(options.needed_s[cheapest]) + config.reserve_s
    last_s = bounds.time_left_s[bounds.table["is_promised"]].max()
    return float(max(least_s, last_s) + MARGIN_S)


def _earliest_finish_s(
    with_job: Bounds,
    beside_job: Bounds,
    job: JobView,
    slowed: set[tuple[str, int]],
    now: datetime,
) -> float:
    """Seconds from now of the nearest deadline, not before the one asked for, that can be met.

    With such a deadline the job is admitted, unless some jobs are `slowed`: then only when they
    are done.

    Args:
        beside_job: The other jobs, slowed by the new one's rows but not yet by its work.
        slowed: Jobs that can finish in time only while the new one leaves rows free.
    """
    fleet, config = with_job.fleet, with_job.config
    options = with_job.options(with_job.jobs.index(job))
    slack_s = beside_job.slack_s()
    cost_s = np.concatenate([[0.0], beside_job.cost_s.cumsum()])
    left_s = [
        float(value)
        for value, other in zip(beside_job.time_left_s, beside_job.jobs, strict=True)
        if other.is_promised
    ]
    waits = [s for s, other in zip(left_s, beside_job.jobs, strict=False) if other.key in slowed]
    due_s = max([(job.deadline_at - now).total_seconds(), *waits])
    wanted = job.num_pending + sum(other.num_pending for other in beside_job.jobs)
    for rank in range(bisect_right(left_s, due_s), len(left_s) + 1):
        # The job goes after the first `rank` others, so it is due no earlier than they are.
        if rank:
            due_s = max(due_s, left_s[rank - 1] + MARGIN_S)
        for _ in range(MAX_ROUNDS):
            # A later deadline may let more of the running work go first.
            held_s = beside_job.held.ahead_s(now + timedelta(seconds=due_s), wanted)
            late_s = pessimistic(fleet, held_s + float(cost_s[rank]))
            # As in `placing`, wide plans are for jobs that wait for nobody.
            offered = options.is_narrow | (late_s <= 0.0)
            least_s = float(options.needed_s[offered].min())
            needed_s = least_s + late_s + config.reserve_s + MARGIN_S
            if needed_s <= due_s:
                break
            due_s = needed_s
        fits = offered & (options.needed_s + late_s <= due_s - config.reserve_s)
        added_s = float(options.row_seconds[fits].min(initial=np.inf)) / fleet.rows
        is_before_next = rank == len(left_s) or due_s < left_s[rank]
        if is_before_next and added_s <= float(slack_s[rank:].min(initial=np.inf)):
            break
    return due_s
