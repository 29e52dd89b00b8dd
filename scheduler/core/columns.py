"""What is remembered of jobs and batches: their columns, and the menus of their kinds.

Theory of operation: everything here is a cache of pure functions. Numbers in columns, such as those
of kinds, mean something only together with the memory that gave them. When a memory holds more than
it should, say after many refits of profiles, the next table starts a new one, and the old one goes
with the last table made from it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import RISKS
from scheduler.core.fleet import Fleet
from scheduler.core.kinds import Kind
from scheduler.core.menus import Menus
from scheduler.core.plan import Plan
from scheduler.core.plan_codes import code_of
from scheduler.core.snapshot import BatchView, JobView
from scheduler.core.states import LIVE, BatchState
from scheduler.core.tables import Columns, Numbers, Table

MAX_REMEMBERED = 65_536
"""Kinds, families, workloads or names met by one memory."""
MAX_MENUS = 16
"""Fleets whose menus are remembered."""

Workload = tuple[Plan, AnswerProfile | None]
"""Plan and profile of a batch."""

_JOB = np.dtype(
    [
        ("deadline_s", float),  # seconds since the epoch, as all instants here
        ("created_s", float),
        ("num_problems", np.int64),  # that it was submitted with
        ("num_pending", np.int64),
        ("num_in_flight", np.int64),
        ("weight", float),
        ("min_accuracy", float),  # 0 when the client left it open
        ("tenant", np.int64),  # a name
        ("tenant_share", float),
        ("wanted", np.int64),  # branches of pending problems under the plan in force
        ("kind", np.int64),  # -1 without pending problems
        ("num_rounded", np.int64),  # pending problems of its kind
        ("family", np.int64),  # what was learned of its task family
        ("plan_code", np.int64),  # of the plan in force, -1 before the first
        ("promised_s", float),
        ("predicted_s", float),
        ("risk", np.int64),  # position in `RISKS`
        ("is_live", bool),
        ("is_promised", bool),
        ("model", np.int64),  # a name
        ("digest", np.int64),  # of its key, 32 bits
    ]
)
_BATCH = np.dtype(
    [
        ("id", np.int64),
        ("deadline_s", float),
        ("created_s", float),
        ("sent_s", float),
        ("lease_s", float),
        ("num_open_problems", np.int64),
        ("num_open_branches", np.int64),
        ("prompt_tokens", float),
        ("workload", np.int64),
        ("is_claimed", bool),
        ("is_planned", bool),
        ("model", np.int64),  # a name, as the next two
        ("worker", np.int64),
        ("owner", np.int64),  # -1 before it is claimed
    ]
)


class Memory:
    """Numbers, columns and menus that belong together.

    Attributes:
        names: Of models, tenants, workers and their incarnations.
    """

    def __init__(self) -> None:
        self.names: Numbers[str] = Numbers()
        self.kinds: Numbers[Kind] = Numbers()
        self.families: Numbers[AnswerProfile | None] = Numbers()
        self.workloads: Numbers[Workload] = Numbers()
        self.jobs: Columns[JobView, Memory] = Columns(self, _JOB, self._job_row)
        self.batches: Columns[BatchView, Memory] = Columns(self, _BATCH, self._batch_row)
        self._menus: dict[tuple[Fleet, SchedulerConfig], Menus] = {}

    @property
    def is_full(self) -> bool:
        """Whether it is time for a new one."""
        met = len(self.names), len(self.kinds), len(self.families), len(self.workloads)
        return max(met) > MAX_REMEMBERED

    def menus(self, fleet: Fleet, config: SchedulerConfig) -> Menus:
        """The menus of a pooled fleet."""
        # How many jobs are reviewed changes no forecast.
        key = (fleet, replace(config, num_reviewed=0))
        found = self._menus.get(key)
        if found is None or found.is_full:
            if len(self._menus) >= MAX_MENUS:
                self._menus.pop(next(iter(self._menus)), None)
            found = self._menus[key] = Menus(fleet, config, self.kinds.keys)
        return found

    def _job_row(self, job: JobView) -> tuple[Any, ...]:
        plan, kind = job.plan, Kind.of(job) if job.num_pending > 0 else None
        return (
            job.deadline_at.timestamp(),
            job.created_at.timestamp(),
            max(job.num_problems, job.num_pending + job.num_in_flight),
            job.num_pending,
            job.num_in_flight,
            job.weight,
            job.min_accuracy or 0.0,
            self.names.of(job.tenant_id),
            job.tenant_share,
            job.num_pending * (plan.num_branches if plan else 1),
            self.kinds.of(kind) if kind else -1,
            kind.num_problems if kind else 0,
            self.families.of(job.answers),
            code_of(plan) if plan else -1,
            job.promised_at.timestamp() if job.promised_at else np.inf,
            job.predicted_at.timestamp() if job.predicted_at else np.nan,
            RISKS.index(job.risk),
            job.state in LIVE,
            job.is_promised,
            self.names.of(job.model),
            crc32(job.id.encode(), job.part),
        )

    def _batch_row(self, batch: BatchView) -> tuple[Any, ...]:
        return (
            batch.id,
            batch.deadline_at.timestamp(),
            batch.created_at.timestamp(),
            batch.sent_at.timestamp() if batch.sent_at else -np.inf,
            batch.lease_expires_at.timestamp() if batch.lease_expires_at else np.inf,
            batch.num_open_problems,
            batch.num_open_branches,
            batch.mean_prompt_tokens,
            self.workloads.of((batch.plan, batch.answers)),
            batch.state is BatchState.CLAIMED,
            batch.state is BatchState.PLANNED,
            self.names.of(batch.model),
            self.names.of(batch.worker_name),
            -1 if batch.lease_owner is None else self.names.of(batch.lease_owner),
        )


Jobs = Table[JobView, Memory]
Batches = Table[BatchView, Memory]

_memory = Memory()


def jobs_table(jobs: Sequence[JobView]) -> Jobs:
    """Jobs with columns."""
    return jobs if isinstance(jobs, Table) else _present().jobs.of(jobs)


def batches_table(batches: Sequence[BatchView]) -> Batches:
    """Batches with columns; by id unless they have columns already."""
    if isinstance(batches, Table):
        return batches
    table = _present().batches.of(batches)
    ids = table.columns["id"]
    is_sorted = bool((ids[1:] > ids[:-1]).all())
    return table if is_sorted else table.take(ids.argsort(kind="stable"))


def forget() -> None:
    """Start the memory anew, as in a new process."""
    global _memory
    _memory = Memory()


def _present() -> Memory:
    if _memory.is_full:
        forget()
    return _memory
