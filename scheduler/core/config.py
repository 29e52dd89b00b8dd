"""Policy constants of `decide`; each line says why it has its value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Knobs of the scheduler. Durations are in seconds.

    Attributes:
        branch_grid: Candidate values of `num_branches`.
        worker_timeout_s: A worker silent this long is gone (heartbeats come every second).
        resend_after_s: A sent but unclaimed batch is sent again after this long.
        reserve_s: Kept free before a deadline for voting, grading and committing.
        queue_depth: Open branches committed to a worker, as a multiple of its rows, so that rows
            freed between two ticks find work.
        max_batches_per_worker: Bound on live batches of one worker (its task threads).
    """

    branch_grid: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
    worker_timeout_s: float = 5.0
    resend_after_s: float = 2.0
    reserve_s: float = 0.5
    queue_depth: float = 2.0
    max_batches_per_worker: int = 8
