"""Handing out pending problems: batches for alive workers, nearest deadline first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from scheduler.core.columns import batches_table
from scheduler.core.commitments import held_by_batches, held_tokens
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.packed import Packed
from scheduler.core.snapshot import BatchView


@dataclass(slots=True)
class _Room:
    """What one worker can still take: branches, tokens of KV cache, batches."""

    name: str
    branches: int
    kv_tokens: float
    num_live: int


def hand_out(
    fleet: Fleet,
    packed: Iterable[Packed],
    batches: Sequence[BatchView],
    config: SchedulerConfig,
) -> list[NewBatch]:
    """Fill the fleet's workers up to their queue depth.

    A worker gets problems while their branches fit in its queue depth, in rows and in the KV cache
    that branches hold on average; an idle one gets at least one problem, however wide. A job that
    finds no room ends the round, so that wide jobs are not starved by narrow ones with later
    deadlines.

    Args:
        packed: Plans in force, nearest deadline first.
        batches: Live batches, those given up in this tick excluded.
    """
    rooms = _rooms(fleet, batches, config)
    queue = [(-room.branches, number) for number, room in enumerate(rooms)]
    heapify(queue)
    result: list[NewBatch] = []
    if not queue:
        return result
    for item in packed:
        plan, pending = item.plan, item.job.num_pending
        need_tokens = held_tokens(fleet.pooled, plan, item.job.mean_prompt_tokens)
        # A small job is spread over the fleet rather than queued on one worker.
        share = -(-pending // len(fleet.members))
        aside = []
        while pending and queue:
            _, number = entry = heappop(queue)
            room = rooms[number]
            fitting = min(room.branches, room.kv_tokens // need_tokens) // plan.num_branches
            size = min(plan.wave_size, share, pending, int(max(fitting, 0 if room.num_live else 1)))
            if size < 1:
                aside.append(entry)
                if room.branches < plan.num_branches:
                    # Nobody else has more rows free.
                    break
                continue
            result.append(NewBatch(item.job.id, room.name, size, plan))
            pending -= size
            room.branches -= size * plan.num_branches
            room.kv_tokens -= size * plan.num_branches * need_tokens
            room.num_live += 1
            if room.num_live < config.max_batches_per_worker:
                heappush(queue, (-room.branches, number))
        for entry in aside:
            heappush(queue, entry)
        if pending:
            break
    return result


def _rooms(fleet: Fleet, batches: Sequence[BatchView], config: SchedulerConfig) -> list[_Room]:
    """Room of the workers that take another batch, in order of name."""
    batches = batches_table(batches)
    columns, names = batches.columns, batches.owner.names
    worker = np.array([names.of(member.name) for member in fleet.members])

    def sums(of: FloatArray | None = None) -> Sequence[float]:
        """Sums over the batches of each worker, by default their number."""
        totals = np.bincount(columns["worker"], of, minlength=len(names))
        found: list[float] = totals[worker].tolist()
        return found

    num_live, branches = sums(), sums(columns["num_open_branches"])
    kv_tokens = sums(held_by_batches(fleet.pooled, batches))
    return [
        _Room(
            member.name,
            int(config.queue_depth * member.spec.max_num_seqs) - int(branches[index]),
            config.queue_depth * member.spec.kv_capacity_tokens - kv_tokens[index],
            int(num_live[index]),
        )
        for index, member in enumerate(fleet.members)
        if num_live[index] < config.max_batches_per_worker
    ]
