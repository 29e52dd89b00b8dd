"""Handing out pending problems: batches for alive workers, nearest deadline first."""

from collections.abc import Iterable, Sequence

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch
from scheduler.core.fleet import Fleet
from scheduler.core.packing import Packed
from scheduler.core.snapshot import BatchView


def hand_out(
    fleet: Fleet,
    packed: Iterable[Packed],
    batches: Sequence[BatchView],
    config: SchedulerConfig,
) -> list[NewBatch]:
    """Fill the fleet's workers up to their queue depth.

    A worker gets problems while their branches fit in its queue depth; an idle one gets at least
    one problem, however wide. A job that finds no room ends the round, so that wide jobs are not
    starved by narrow ones with later deadlines.

    Args:
        packed: Plans in force, nearest deadline first.
        batches: Live batches, those given up in this tick excluded.
    """
    free, live = {}, {}
    for member in fleet.members:
        mine = [batch for batch in batches if batch.worker_name == member.name]
        depth = int(config.queue_depth * member.spec.max_num_seqs)
        free[member.name] = depth - sum(batch.num_open_branches for batch in mine)
        live[member.name] = len(mine)
    result: list[NewBatch] = []
    for item in packed:
        plan, pending = item.plan, item.job.num_pending
        # A small job is spread over the fleet rather than queued on one worker.
        share = -(-pending // len(fleet.members))
        while pending:
            open_to_more = [n for n in free if live[n] < config.max_batches_per_worker]
            if not open_to_more:
                return result
            name = max(open_to_more, key=lambda n: free[n])
            room = max(free[name] // plan.num_branches, 0 if live[name] else 1)
            size = min(plan.wave_size, share, pending, room)
            if size < 1:
                return result
            result.append(NewBatch(item.job.id, name, size, plan))
            pending -= size
            free[name] -= size * plan.num_branches
            live[name] += 1
    return result
