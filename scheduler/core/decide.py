"""One tick: from a snapshot to writes and messages.

Theory of operation: `decide` is a pure function, and the order of jobs, batches and workers in the
snapshot does not matter. It gives up batches that nobody works on, expires jobs, plans and packs
each model's jobs on its alive workers and hands out problems. Problems of a batch given up now are
pending again when the shell has written that down, so the next tick hands them out. A job that
cannot be planned is reported, and the others are planned without it.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Batches, Jobs, batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Decisions, JobPlanned, LostBatch, NewBatch, PlanFailure
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import alive_workers, fleets_by_model
from scheduler.core.losses import NO_LOSS, REASONS, losses
from scheduler.core.planning import plan_jobs
from scheduler.core.risks import risks_of_others, risks_of_planned
from scheduler.core.snapshot import Snapshot


def decide(snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
    """Decide one tick."""
    now = snapshot.now
    alive = alive_workers(snapshot.workers, now, config)
    jobs, batches = jobs_table(snapshot.jobs), batches_table(snapshot.batches)
    loss = losses(batches, alive, now)
    lost, kept = np.flatnonzero(loss != NO_LOSS), batches.take(loss == NO_LOSS)
    plans: list[JobPlanned] = []
    new_batches: list[NewBatch] = []
    failures: list[PlanFailure] = []
    fleets = fleets_by_model(alive)
    risks = risks_of_others(jobs, fleets, now, config)
    for model, fleet in fleets.items():
        mine = serving(kept, model)
        arrivals = snapshot.arrivals_of(model)
        planned = plan_jobs(
            fleet, jobs.take(is_to_plan(jobs, model, now, config)), mine, now, config, arrivals
        )
        if planned.bounds:
            used = planned.bounds.fleet
            new_batches += hand_out(
                used, planned.in_line(), mine, config, is_limited=used is not fleet
            )
        plans += planned.decisions()
        failures += planned.failures
        if planned.bounds is not None:
            risks += risks_of_planned(planned.bounds)
    expired = _expired(jobs, now)
    over = {job_id for job_id, part in expired if not part}
    return Decisions(
        lost_batches=tuple(
            LostBatch(batches[index].id, REASONS[loss[index]]) for index in lost.tolist()
        ),
        expired_jobs=tuple(sorted(over)),
        expired_parts=tuple(key for key in expired if key[0] not in over),
        plans=tuple(plans),
        new_batches=tuple(new_batches),
        resend_batches=_unheard(kept, now, config),
        # Once for each job, however many of its parts failed.
        plan_failures=tuple(
            failure for _, failure in sorted({one.job_id: one for one in failures}.items())
        ),
        risks=tuple(risks),
    )


def is_to_plan(jobs: Jobs, model: str, now: datetime, config: SchedulerConfig) -> NDArray[np.bool_]:
    """Which are live jobs of the model with problems to hand out and time to answer them."""
    columns = jobs.columns
    has_time = columns["deadline_s"] > now.timestamp() + config.reserve_s
    is_served = columns["model"] == jobs.owner.names.of(model)
    return np.asarray(columns["is_live"] & is_served & has_time & (columns["num_pending"] > 0))


def serving(batches: Batches, model: str) -> Batches:
    """Batches of jobs of this model; those that are kept are on a worker that serves it."""
    return batches.take(batches.columns["model"] == batches.owner.names.of(model))


def _expired(jobs: Jobs, now: datetime) -> list[tuple[str, int]]:
    is_over = jobs.columns["is_live"] & (jobs.columns["deadline_s"] <= now.timestamp())
    return sorted(job.key for job in jobs.take(is_over))


def _unheard(batches: Batches, now: datetime, config: SchedulerConfig) -> tuple[int, ...]:
    """Planned batches whose message seems lost, or never left."""
    is_quiet = batches.columns["sent_s"] <= now.timestamp() - config.resend_after_s
    return tuple(batches.columns["id"][batches.columns["is_planned"] & is_quiet].tolist())
