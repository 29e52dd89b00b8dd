"""Work that live batches still hold, and for how long it keeps rows from a job.

Theory of operation: batches due no later than a job go first with all they hold. Of later ones only
the branches that decode already stand in the way: engines order their queue by deadline. And as
long as rows are free, nothing does.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from scheduler.core.capped import capped_by
from scheduler.core.columns import Batches, batches_table
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Plan
from scheduler.core.snapshot import BatchView


class Commitments:
    """Row-seconds that the live batches of a fleet still need."""

    def __init__(self, fleet: Fleet, batches: Sequence[BatchView], now: datetime) -> None:
        batches = batches_table(batches)
        columns = batches.columns
        num_open = columns["num_open_branches"]
        self.open_branches = int(num_open.sum())
        # Branches beyond the rows wait inside the engine.
        running_share = min(1.0, fleet.rows / max(self.open_branches, 1))
        pooled = fleet.pooled
        whole, age, _, tpot_s = _branches_of(pooled, batches)
        running = running_share * num_open
        elapsed = np.maximum(now.timestamp() - columns["created_s"], 0.0) / tpot_s
        # Young branches have most of their work before them; of old ones the mean remaining life
        # is what counts, however old they are.
        remaining = np.maximum(whole - elapsed, np.minimum(age, whole))
        # What has not ended then the deadline ends.
        left_s = np.maximum(columns["deadline_s"] - now.timestamp(), 0.0)
        remaining_s, whole_s = np.minimum(np.array([remaining, whole]) * tpot_s, left_s)
        order = columns["deadline_s"].argsort(kind="stable")
        waiting = (num_open - running)[order]
        self._due_s = columns["deadline_s"][order]
        self._waiting = np.concatenate([[0.0], waiting.cumsum()])
        self._waiting_s = np.concatenate([[0.0], (waiting * whole_s[order]).cumsum() / fleet.rows])
        self._rows = fleet.rows
        self._running = float(running.sum())
        self._running_s = float((running * remaining_s).sum()) / fleet.rows

    def ahead_s(self, deadline_at: datetime, num_wanted: int) -> float:
        """Seconds for which the fleet's rows are kept from a job with this deadline.

        Args:
            num_wanted: Rows that the job and those before it want.
        """
        wanted = np.array([num_wanted])
        return float(self.ahead_of(np.array([deadline_at.timestamp()]), wanted)[0])

    def ahead_of(self, deadline_s: FloatArray, num_wanted: NDArray[np.int64]) -> FloatArray:
        """`ahead_s` for several deadlines, in seconds since the epoch."""
        num_before = self._due_s.searchsorted(deadline_s, side="right")
        # Running branches stand in the way only of those for whom no free row is left, and what
        # waits with a later deadline does not.
        short = self._running + self._waiting[num_before] + num_wanted - self._rows
        share = np.clip(short / max(self._running, 1.0), 0.0, 1.0)
        return np.asarray(share * self._running_s + self._waiting_s[num_before])


def held_by_batches(fleet: Fleet, batches: Batches) -> FloatArray:
    """Tokens of KV cache that the open branches of each batch hold when they all run."""
    _, _, context, _ = _branches_of(fleet, batches)
    columns = batches.columns
    return np.asarray(columns["num_open_branches"] * (columns["prompt_tokens"] + context))


def _branches_of(fleet: Fleet, batches: Batches) -> FloatArray:
    """`_branch_of` of each batch as (4, batches)."""
    numbers, workloads = batches.columns["workload"], batches.owner.workloads.keys
    known = _known_branches.get(batches.owner)
    if known is None or known[0] is not fleet or known[1].shape[1] < len(workloads):
        known = _known_branches[batches.owner] = fleet, np.full((4, 2 * len(workloads)), np.nan)
    branches = known[1]
    found = branches.take(numbers, axis=1)
    missing = np.isnan(found[0])
    if missing.any():
        for number in np.unique(numbers[missing]).tolist():
            plan, answers = workloads[number]
            branches[:, number] = _branch_of(fleet.informed(answers), plan)
        found = branches.take(numbers, axis=1)
    return np.asarray(found)


_known_branches: WeakKeyDictionary[object, tuple[Fleet, FloatArray]] = WeakKeyDictionary()
"""By memory what its workloads are on the fleet of the last call."""


@lru_cache(maxsize=4096)
def _branch_of(fleet: Fleet, plan: Plan) -> tuple[float, float, float, float]:
    """Mean tokens of a row of this plan, mean age of a busy one, context of it, s per token."""
    at_cap = capped_by(fleet.answers, plan)
    age, context = at_cap.age.item(), at_cap.context.item()
    tpot_s = float(fleet.tpot_s(fleet.rows, plan.num_speculative_tokens, context))
    return at_cap.work.item() / plan.num_branches, age, context, tpot_s


def held_tokens(fleet: Fleet, plan: Plan, prompt_tokens: float) -> float:
    """Tokens of KV cache that a running branch of this plan holds on average."""
    return prompt_tokens + _branch_of(fleet, plan)[2]


def row_held_s(fleet: Fleet, plan: Plan) -> float:
    """Mean seconds for which a problem under this plan holds each of its rows.

    Of a successive plan that is the time of all branches that follow one another in the row.
    """
    tokens, _, _, tpot_s = _branch_of(fleet, plan)
    return tokens * tpot_s
