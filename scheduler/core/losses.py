"""Batches that nobody works on any more."""

from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Batches
from scheduler.core.decisions import LossReason
from scheduler.core.snapshot import WorkerView

NO_LOSS = -1
REASONS = (
    LossReason.WORKER_GONE,
    LossReason.MODEL_CHANGED,
    LossReason.NOTHING_OPEN,
    LossReason.WORKER_RESTARTED,
    LossReason.LEASE_OVER,
)


def losses(batches: Batches, alive: Iterable[WorkerView], now: datetime) -> NDArray[np.int64]:
    """Why each batch is lost, as a position in `REASONS`; `NO_LOSS` while somebody works on it.

    A planned batch outlives a restart of its worker, unless it serves another model now: the new
    process reads the same queue. Without an open problem its job has ended, which two leaders at
    once can bring about: nobody may claim it.

    Args:
        alive: Workers heard of lately.
    """
    columns, names = batches.columns, batches.owner.names
    alive = list(alive)
    worker, models, incarnations = (
        names.of_all(map(attrgetter(name), alive)) for name in ("name", "spec.model", "incarnation")
    )
    model, incarnation = np.full((2, len(names)), -1)
    model[worker], incarnation[worker] = models, incarnations
    model, incarnation = model[columns["worker"]], incarnation[columns["worker"]]
    is_claimed = columns["is_claimed"]
    is_lost = (
        model < 0,
        model != columns["model"],
        ~is_claimed & (columns["num_open_problems"] == 0),
        is_claimed & (incarnation != columns["owner"]),
        is_claimed & (columns["lease_s"] < now.timestamp()),
    )
    found = np.full(len(batches), NO_LOSS)
    # Of several reasons the first one counts.
    for reason in reversed(range(len(REASONS))):
        found[is_lost[reason]] = reason
    return found
