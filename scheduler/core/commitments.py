"""Work that live batches still hold, and for how long it keeps rows from a job.

Theory of operation: batches due no later than a job go first with all they hold. Of later ones only
the branches that decode already stand in the way: engines order their queue by deadline.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.occupancy import capped
from scheduler.core.snapshot import BatchView


class Commitments:
    """Row-seconds that the live batches of a fleet still need."""

    def __init__(self, fleet: Fleet, batches: Sequence[BatchView], now: datetime) -> None:
        self._rows = fleet.rows
        self._due_at = np.array([batch.deadline_at.timestamp() for batch in batches])
        self.open_branches = sum(batch.num_open_branches for batch in batches)
        # Branches beyond the rows wait inside the engine.
        self._running_share = min(1.0, fleet.rows / max(self.open_branches, 1))
        self._loads = np.array([self._load(fleet, batch, now) for batch in batches]).reshape(-1, 2)

    def ahead_s(self, deadline_at: datetime) -> float:
        """Seconds for which the fleet's rows are kept from a job with this deadline."""
        running, waiting = self._loads.T
        is_before = self._due_at <= deadline_at.timestamp()
        return float((running.sum() + waiting[is_before].sum()) / self._rows)

    def _load(self, fleet: Fleet, batch: BatchView, now: datetime) -> FloatArray:
        """Row-seconds of running and of waiting branches."""
        plan = batch.plan
        at_cap = capped(fleet.answers, (plan.num_branches,), (float(plan.max_tokens),))
        whole = at_cap.work.item() / plan.num_branches
        age = at_cap.age.item()
        tpot_s = float(fleet.tpot_s(fleet.rows, plan.num_speculative_tokens, age))
        running = self._running_share * batch.num_open_branches
        elapsed = max((now - batch.created_at).total_seconds(), 0.0) / tpot_s
        # Young branches have most of their work before them; of old ones the mean remaining life
        # is what counts, however old they are.
        remaining = max(whole - elapsed, min(age, whole))
        waiting = batch.num_open_branches - running
        return np.array([running * remaining, waiting * whole]) * tpot_s
