"""One tick: from a snapshot to writes and messages.

Theory of operation: `decide` is a pure function, and the order of jobs, batches and workers in the
snapshot does not matter. It gives up batches that nobody works on, expires jobs, plans and packs
each model's jobs on its alive workers and hands out problems. Problems of a batch given up now are
pending again when the shell has written that down, so the next tick hands them out.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Decisions, JobPlanned, NewBatch, PlanReason
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import Fleet, alive_workers, fleets_by_model
from scheduler.core.packing import Bounds, Packed, pack
from scheduler.core.plan import Plan
from scheduler.core.snapshot import BatchView, JobView, Snapshot, WorkerView
from scheduler.core.states import LIVE, BatchState

COST_SLACK = 1.25
"""A stored plan costing more than this multiple of the new one is dropped: others need the rows."""
CAP_SLACK = 1.25
"""Token caps within this factor count as the same plan."""


def decide(snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
    """Decide one tick."""
    now = snapshot.now
    alive = alive_workers(snapshot.workers, now, config)
    by_name = {worker.name: worker for worker in alive}
    batches = sorted(snapshot.batches, key=lambda batch: batch.id)
    lost = [batch for batch in batches if is_lost(batch, by_name.get(batch.worker_name), now)]
    lost_ids = {batch.id for batch in lost}
    kept = [batch for batch in batches if batch.id not in lost_ids]
    open_jobs = [job for job in snapshot.jobs if job.state in LIVE]
    plans: list[JobPlanned] = []
    new_batches: list[NewBatch] = []
    for model, fleet in fleets_by_model(alive).items():
        names = {member.name for member in fleet.members}
        mine = [batch for batch in kept if batch.worker_name in names]
        jobs = jobs_to_plan(open_jobs, model, now, config)
        packed = plans_in_force(fleet, jobs, mine, now, config)
        plans += [
            JobPlanned(item.job.id, item.plan, item.forecast, item.reason)
            for item in packed
            if item.plan != item.job.plan
        ]
        new_batches += hand_out(fleet, packed, mine, config)
    return Decisions(
        lost_batches=tuple(batch.id for batch in lost),
        expired_jobs=tuple(sorted(job.id for job in open_jobs if job.deadline_at <= now)),
        plans=tuple(plans),
        new_batches=tuple(new_batches),
        resend_batches=tuple(b.id for b in kept if _is_unheard(b, now, config)),
    )


def is_lost(batch: BatchView, worker: WorkerView | None, now: datetime) -> bool:
    """Whether nobody works on the batch any more.

    Args:
        worker: The alive worker of that name, None when it is gone. A planned batch outlives a
            restart of its worker, unless it serves another model now: the new process reads the
            same queue.
    """
    if worker is None or worker.spec.model != batch.model:
        return True
    if batch.state is not BatchState.CLAIMED:
        # Without an open problem its job has ended, which two leaders at once can bring about:
        # nobody may claim it.
        return batch.num_open_problems == 0
    is_lease_over = batch.lease_expires_at is not None and batch.lease_expires_at < now
    return is_lease_over or batch.lease_owner != worker.incarnation


def jobs_to_plan(
    jobs: Sequence[JobView], model: str, now: datetime, config: SchedulerConfig
) -> list[JobView]:
    """Jobs of the model with problems to hand out and time to answer them."""
    closing_at = now + timedelta(seconds=config.reserve_s)
    return [
        job
        for job in jobs
        if job.model == model and job.num_pending > 0 and job.deadline_at > closing_at
    ]


def plans_in_force(
    fleet: Fleet,
    jobs: Sequence[JobView],
    batches: Sequence[BatchView],
    now: datetime,
    config: SchedulerConfig,
) -> list[Packed]:
    """Pack the jobs; a stored plan stays unless the new one is materially better."""
    if not jobs:
        return []
    bounds = Bounds(fleet, jobs, batches, now, config)
    return [_settle(bounds, index, item) for index, item in enumerate(pack(bounds))]


def _settle(bounds: Bounds, index: int, item: Packed) -> Packed:
    """Keep the stored plan unless the new one differs and pays."""
    stored = item.job.plan
    if stored is None:
        return replace(item, reason=PlanReason.FIRST_PLAN)
    reason = _reason_to_change(bounds, index, item, stored)
    return replace(item, plan=stored) if reason is None else replace(item, reason=reason)


def _reason_to_change(bounds: Bounds, index: int, item: Packed, stored: Plan) -> PlanReason | None:
    if _is_similar(stored, item.plan):
        return None
    if not item.is_in_time:
        return PlanReason.DEADLINE_AT_RISK
    options = bounds.options[index]
    found = options.find(stored)
    if found is None:
        return PlanReason.NO_LONGER_OFFERED
    if not bounds.fits(index, bounds.ahead_s(index))[found]:
        return PlanReason.WOULD_BE_LATE
    if item.forecast.accuracy - options.accuracy[found] >= bounds.config.replan_gain:
        return PlanReason.MORE_ACCURATE
    if options.row_seconds[found] > COST_SLACK * item.forecast.row_seconds:
        return PlanReason.ROWS_NEEDED
    return None


def _is_similar(stored: Plan, new: Plan) -> bool:
    """Same width and draft length, and nearly the same cap: caps of late jobs shrink steadily."""
    return (
        stored.num_branches == new.num_branches
        and stored.num_speculative_tokens == new.num_speculative_tokens
        and new.max_tokens <= stored.max_tokens * CAP_SLACK
        and stored.max_tokens <= new.max_tokens * CAP_SLACK
    )


def _is_unheard(batch: BatchView, now: datetime, config: SchedulerConfig) -> bool:
    """Whether the message of a planned batch seems lost, or never left."""
    if batch.state is not BatchState.PLANNED:
        return False
    quiet = timedelta(seconds=config.resend_after_s)
    return batch.sent_at is None or now - batch.sent_at >= quiet
