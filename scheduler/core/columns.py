"""Views of a snapshot as columns: one structured array for jobs, one for batches.

Theory of operation: a tick reads thousands of views of which few changed since the tick before.
Reading an attribute takes as long as ten array elements, so rows are kept between ticks: a view
that is the same object as before keeps its row. Views are frozen, so the same object has the same
row, and the columns are a pure function of the views whatever was kept.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.menus import kind_id, plan_code
from scheduler.core.plan import Plan
from scheduler.core.snapshot import BatchView, JobView
from scheduler.core.states import LIVE, BatchState

Table = NDArray[Any]
View = TypeVar("View")


class Columns(Generic[View]):
    """Structured arrays of views, with the rows of the last call kept."""

    def __init__(self, dtype: np.dtype[Any], row: Callable[[View], tuple[Any, ...]]) -> None:
        self._dtype = dtype
        self._row = row
        # One tuple, replaced as a whole, so that threads may share the memory. It holds the views
        # themselves: an address is theirs only as long as they live.
        self._last: tuple[tuple[View, ...], NDArray[np.int64], Table] = (
            (),
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=dtype),
        )

    def of(self, views: Sequence[View]) -> Table:
        """The columns of these views, in their order."""
        _, known, rows = self._last
        addresses = np.fromiter(map(id, views), np.int64, len(views))
        table = np.empty(len(views), dtype=self._dtype)
        fresh = np.ones(len(views), dtype=bool)
        if len(known):
            spot = np.minimum(known.searchsorted(addresses), len(known) - 1)
            fresh = known[spot] != addresses
            table[~fresh] = rows[spot[~fresh]]
        for index in np.flatnonzero(fresh).tolist():
            table[index] = self._row(views[index])
        order = addresses.argsort()
        self._last = (tuple(views), addresses[order], table[order])
        return table


_TENANTS: dict[str, int] = {}


def _job_row(job: JobView) -> tuple[Any, ...]:
    plan = job.plan
    return (
        job.deadline_at.timestamp(),
        job.created_at.timestamp(),
        job.num_pending,
        job.num_in_flight,
        job.weight,
        _TENANTS.setdefault(job.tenant_id, len(_TENANTS)),
        job.tenant_share,
        job.num_pending * (plan.num_branches if plan else 1),
        kind_id(job) if job.num_pending > 0 else -1,
        int(plan_code(*_split(plan))) if plan else -1,
        job.promised_at.timestamp() if job.promised_at else np.inf,
        job.predicted_at.timestamp() if job.predicted_at else np.nan,
        job.state in LIVE,
        job.is_promised,
    )


def _split(plan: Plan) -> tuple[int, int, int]:
    return plan.num_branches, plan.num_speculative_tokens, plan.max_tokens


WORKLOADS: list[tuple[Plan, AnswerProfile | None]] = []
"""Plans and profiles of the batches met so far, of which there are few."""
_NUMBERS: dict[tuple[Plan, AnswerProfile | None], int] = {}
_NUMBERS_LOCK = Lock()


def _number_of(batch: BatchView) -> int:
    workload = batch.plan, batch.answers
    if workload not in _NUMBERS:
        with _NUMBERS_LOCK:
            if workload not in _NUMBERS:
                WORKLOADS.append(workload)
                _NUMBERS[workload] = len(WORKLOADS) - 1
    return _NUMBERS[workload]


def _batch_row(batch: BatchView) -> tuple[Any, ...]:
    lease_s = batch.lease_expires_at.timestamp() if batch.lease_expires_at else np.inf
    return (
        batch.id,
        batch.deadline_at.timestamp(),
        batch.created_at.timestamp(),
        batch.sent_at.timestamp() if batch.sent_at else -np.inf,
        lease_s,
        batch.num_open_problems,
        batch.num_open_branches,
        batch.mean_prompt_tokens,
        _number_of(batch),
        batch.state is BatchState.CLAIMED,
        batch.state is BatchState.PLANNED,
    )


JOBS: Columns[JobView] = Columns(
    np.dtype(
        [
            ("deadline_s", float),  # seconds since the epoch, as all instants here
            ("created_s", float),
            ("num_pending", np.int64),
            ("num_in_flight", np.int64),
            ("weight", float),
            ("tenant", np.int64),
            ("tenant_share", float),
            ("wanted", np.int64),  # branches of pending problems under the plan in force
            ("kind", np.int64),
            ("plan_code", np.int64),  # of the plan in force, -1 before the first
            ("promised_s", float),
            ("predicted_s", float),
            ("is_live", bool),
            ("is_promised", bool),
        ]
    ),
    _job_row,
)
BATCHES: Columns[BatchView] = Columns(
    np.dtype(
        [
            ("id", np.int64),
            ("deadline_s", float),
            ("created_s", float),
            ("sent_s", float),
            ("lease_s", float),
            ("num_open_problems", np.int64),
            ("num_open_branches", np.int64),
            ("prompt_tokens", float),
            ("workload", np.int64),  # position in `WORKLOADS`
            ("is_claimed", bool),
            ("is_planned", bool),
        ]
    ),
    _batch_row,
)
