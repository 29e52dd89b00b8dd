"""One tick: from a snapshot to writes and messages.

Theory of operation: `decide` is a pure function, and the order of jobs, batches and workers in the
snapshot does not matter. It gives up batches that nobody works on, expires jobs, plans and packs
each model's jobs on its alive workers and hands out problems. Problems of a batch given up now are
pending again when the shell has written that down, so the next tick hands them out. A job that
cannot be planned is reported, and the others are planned without it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import (
    Decisions,
    JobPlanned,
    LossReason,
    LostBatch,
    NewBatch,
    PlanFailure,
)
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import alive_workers, fleets_by_model
from scheduler.core.planning import Planned, plan_jobs
from scheduler.core.snapshot import BatchView, JobView, Snapshot, WorkerView
from scheduler.core.states import LIVE, BatchState


def decide(snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
    """Decide one tick."""
    now = snapshot.now
    alive = alive_workers(snapshot.workers, now, config)
    by_name = {worker.name: worker for worker in alive}
    batches = sorted(snapshot.batches, key=attrgetter("id"))
    losses = [loss_of(batch, by_name.get(batch.worker_name), now) for batch in batches]
    kept = [batch for batch, loss in zip(batches, losses, strict=True) if loss is None]
    open_jobs = [job for job in snapshot.jobs if job.state in LIVE]
    plans: list[JobPlanned] = []
    new_batches: list[NewBatch] = []
    failures: list[PlanFailure] = []
    for model, fleet in fleets_by_model(alive).items():
        names = {member.name for member in fleet.members}
        mine = [batch for batch in kept if batch.worker_name in names]
        jobs = jobs_to_plan(open_jobs, model, now, config)
        arrivals = snapshot.arrivals_of(model)
        planned: Planned = plan_jobs(fleet, jobs, mine, now, config, arrivals)
        new_batches += hand_out(fleet, planned.in_line(), mine, config)
        plans += planned.decisions()
        failures += planned.failures
    return Decisions(
        lost_batches=tuple(
            LostBatch(b.id, loss) for b, loss in zip(batches, losses, strict=True) if loss
        ),
        expired_jobs=tuple(sorted(job.id for job in open_jobs if job.deadline_at <= now)),
        plans=tuple(plans),
        new_batches=tuple(new_batches),
        resend_batches=tuple(b.id for b in kept if _is_unheard(b, now, config)),
        plan_failures=tuple(sorted(failures, key=attrgetter("job_id"))),
    )


def loss_of(batch: BatchView, worker: WorkerView | None, now: datetime) -> LossReason | None:
    """Why nobody works on the batch any more; None while somebody does.

    Args:
        worker: The alive worker of that name, None when it is gone. A planned batch outlives a
            restart of its worker, unless it serves another model now: the new process reads the
            same queue.
    """
    if worker is None:
        return LossReason.WORKER_GONE
    if worker.spec.model != batch.model:
        return LossReason.MODEL_CHANGED
    if batch.state is not BatchState.CLAIMED:
        # Without an open problem its job has ended, which two leaders at once can bring about:
        # nobody may claim it.
        return LossReason.NOTHING_OPEN if batch.num_open_problems == 0 else None
    if batch.lease_owner != worker.incarnation:
        return LossReason.WORKER_RESTARTED
    if batch.lease_expires_at is not None and batch.lease_expires_at < now:
        return LossReason.LEASE_OVER
    return None


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


def _is_unheard(batch: BatchView, now: datetime, config: SchedulerConfig) -> bool:
    """Whether the message of a planned batch seems lost, or never left."""
    if batch.state is not BatchState.PLANNED:
        return False
    quiet = timedelta(seconds=config.resend_after_s)
    return batch.sent_at is None or now - batch.sent_at >= quiet
