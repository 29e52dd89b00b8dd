"""Fixed splits: the same width and draft length for every job, first come or nearest deadline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from math import nan

from scheduler.core.columns import batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import is_to_plan, serving
from scheduler.core.decisions import Admitted, Decisions, NewBatch, Rejected, RejectReason
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import Fleet, alive_workers, fleets_by_model
from scheduler.core.packed import Packed
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import JobView, Snapshot

NO_PROMISE = Forecast(nan, nan, nan, nan)
VOTE_ALL = -1.0
"""`Plan.stop_gain` of fixed majority voting: a problem ends when all its branches did."""
WHEN_DECIDED = 0.0

SplitOf = Callable[[Fleet, JobView, SchedulerConfig], Plan]


@dataclass(frozen=True)
class Ordered:
    """Admits every job and hands out in one order, under splits that ignore the load.

    Batches are handed out by the production code, so that only the choice of splits differs.

    Attributes:
        by_deadline: Nearest deadline first; otherwise first come, first served.
    """

    name: str
    split: SplitOf
    by_deadline: bool

    def admit(
        self, snapshot: Snapshot, job: JobView, config: SchedulerConfig
    ) -> Admitted | Rejected:
        """Admit whatever a worker serves."""
        fleet = fleets_by_model(alive_workers(snapshot.workers, snapshot.now, config)).get(
            job.model
        )
        if fleet is None:
            return Rejected(RejectReason.NO_CAPACITY, earliest_finish_s=None)
        return Admitted(self.split(fleet, job, config), NO_PROMISE, degraded=False)

    def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        """Hand out in order."""
        alive = alive_workers(snapshot.workers, snapshot.now, config)
        new_batches: list[NewBatch] = []
        jobs, batches = jobs_table(snapshot.jobs), batches_table(snapshot.batches)
        for model, fleet in fleets_by_model(alive).items():
            to_plan = jobs.take(is_to_plan(jobs, model, snapshot.now, config))
            in_line = sorted(
                to_plan, key=lambda job: (self.priority(job.created_at, job.deadline_at), job.id)
            )
            packed = [
                Packed(job, job.plan or self.split(fleet, job, config), NO_PROMISE, is_in_time=True)
                for job in in_line
            ]
            new_batches += hand_out(fleet, packed, serving(batches, model), config)
        return Decisions(new_batches=tuple(new_batches))

    def priority(self, created_at: datetime, deadline_at: datetime) -> float:
        """Place in an engine's queue."""
        return (deadline_at if self.by_deadline else created_at).timestamp()


def fixed_split(
    num_branches: int, num_speculative_tokens: int, *, stop_gain: float = WHEN_DECIDED
) -> SplitOf:
    """One split for every job, capped by nothing but the model's length."""

    def split(fleet: Fleet, job: JobView, config: SchedulerConfig) -> Plan:
        del config
        width = min(num_branches, job.max_branches)
        room = int(fleet.max_model_len - job.mean_prompt_tokens)
        plan = Plan(width, num_speculative_tokens, room, wave_size(fleet, width))
        return replace(plan, stop_gain=stop_gain)

    return split


def wave_size(fleet: Fleet, num_branches: int) -> int:
    """Problems of a batch that fills half of a worker's rows, as in production."""
    rows = min(member.spec.max_num_seqs for member in fleet.members)
    return max(1, rows // (2 * num_branches))


def fifo(num_branches: int) -> Ordered:
    """First come, first served; fixed majority voting without speculation."""
    return Ordered("fifo", fixed_split(num_branches, 0, stop_gain=VOTE_ALL), by_deadline=False)


def earliest_deadline_first(num_branches: int, num_speculative_tokens: int) -> Ordered:
    """Nearest deadline first under one split; a decided vote frees its rows."""
    split = fixed_split(num_branches, num_speculative_tokens)
    return Ordered(f"edf_b{num_branches}_g{num_speculative_tokens}", split, by_deadline=True)
