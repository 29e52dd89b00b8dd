"""Handing out pending problems: batches for alive workers, nearest deadline first."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from scheduler.core.columns import batches_table
from scheduler.core.commitments import held_by_batches, held_tokens, row_held_s
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.packed import Packed
from scheduler.core.plan import Plan
from scheduler.core.snapshot import BatchView

REFILL_S = 0.5
"""From the end of a branch to the start of the next one in its row: half the time between ticks,
and that from a decision to the first token."""


def hand_out(
    fleet: Fleet,
    packed: Iterable[Packed],
    batches: Sequence[BatchView],
    config: SchedulerConfig,
    *,
    is_limited: bool = False,
) -> list[NewBatch]:
    """Fill the fleet's workers: their rows, and what follows until they hear of the next batch.

    A worker gets problems while their branches fit in that and in the KV cache that branches hold
    on average; an idle one gets at least one problem, however wide. A job that finds no room ends
    the round, so that wide jobs are not starved by narrow ones with later deadlines. A worker with
    work for all of its rows waits until half a wave fits, as every batch costs it something. With
    limited rows, batches that are too small to fill them with as many as it may have wait for more
    room. What a worker was not given yet can still get a better plan.

    Args:
        packed: Plans in force, nearest deadline first.
        batches: Live batches, those given up in this tick excluded.
        is_limited: Whether the fleet has fewer rows than its engines; see `row_limit`.
    """
    branches, kv_tokens, num_live = _room(fleet, batches, config)
    queue = [
        (-free, number)
        for number, free in enumerate(branches)
        if num_live[number] < config.max_batches_per_worker
    ]
    heapify(queue)
    result: list[NewBatch] = []
    if not queue:
        return result
    for item in packed:
        plan, pending = item.plan, item.job.num_pending
        need_tokens = held_tokens(fleet.pooled, plan, item.job.mean_prompt_tokens)
        more, fewest = _refill(fleet, plan, config, is_limited=is_limited)
        # A small job is spread over the fleet rather than queued on one worker.
        share = -(-pending // len(fleet.members))
        aside = []
        while pending and queue:
            _, number = entry = heappop(queue)
            free = branches[number] + more
            fitting = min(free, kv_tokens[number] // need_tokens) // plan.num_branches
            least = 0 if num_live[number] else 1
            most = min(plan.wave_size, share, pending)
            size = min(most, int(max(fitting, least)))
            is_fed = num_live[number] and (is_limited or branches[number] <= 0)
            if size < max(1, min(most, fewest) if is_fed else 0):
                aside.append(entry)
                if free < plan.num_branches:
                    # Nobody else has more rows free.
                    break
                continue
            worker_name = fleet.members[number].name
            result.append(NewBatch(item.job.id, worker_name, size, plan, item.job.part))
            pending -= size
            branches[number] -= size * plan.num_branches
            kv_tokens[number] -= size * plan.num_branches * need_tokens
            num_live[number] += 1
            if num_live[number] < config.max_batches_per_worker:
                heappush(queue, (-branches[number], number))
        for entry in aside:
            heappush(queue, entry)
        if pending:
            break
    return result


def _refill(
    fleet: Fleet, plan: Plan, config: SchedulerConfig, *, is_limited: bool
) -> tuple[int, int]:
    """Branches beyond the rows of a worker, and problems of a batch at least."""
    rows, most = fleet.least_rows, fleet.least_rows * (config.queue_depth - 1.0)
    end_meanwhile = rows * REFILL_S / row_held_s(fleet.pooled, plan)
    if is_limited:
        # A live batch has half of its problems open on average.
        fewest = 2 * rows // (config.max_batches_per_worker * plan.num_branches)
        return int(min(end_meanwhile, most)), max(1, fewest)
    # Next to no time is lost by more in the queue, and twice as much covers a late tick.
    fewest = max(1, plan.wave_size // 2)
    return int(min(fewest * plan.num_branches + 2.0 * end_meanwhile, most)), fewest


def _room(
    fleet: Fleet, batches: Sequence[BatchView], config: SchedulerConfig
) -> tuple[list[float], list[float], list[int]]:
    """What each worker can still take, branches and tokens of KV cache, and its live batches."""
    batches = batches_table(batches)
    columns, names = batches.columns, batches.owner.names
    worker, has = names.of_all(fleet.names), fleet.room

    def sums(of: FloatArray | None = None) -> FloatArray:
        """Sums over the batches of each worker, by default their number."""
        return np.asarray(np.bincount(columns["worker"], of, minlength=len(names))[worker])

    branches = has[:, 0] - sums(columns["num_open_branches"])
    kv_tokens = config.queue_depth * has[:, 1] - sums(held_by_batches(fleet.pooled, batches))
    return branches.tolist(), kv_tokens.tolist(), sums().astype(np.int64).tolist()
