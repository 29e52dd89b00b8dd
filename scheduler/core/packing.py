"""Sharing one model's rows among jobs: the best plans that all demand bounds allow."""

from collections.abc import Sequence
from datetime import datetime

from scheduler.core.bounds import Bounds
from scheduler.core.columns import batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.row_limit import limited
from scheduler.core.snapshot import NO_ARRIVALS, Arrivals, BatchView, JobView


def place_on_rows(
    fleet: Fleet,
    jobs: Sequence[JobView],
    batches: Sequence[BatchView],
    now: datetime,
    config: SchedulerConfig,
    arrivals: Arrivals = NO_ARRIVALS,
    *,
    extra_branches: int = 0,
    num_reviewed: int | None = None,
) -> Bounds:
    """First plans on the rows that are worth using, or on all where these keep more promises.

    Admission and planning both decide by it, so what is promised is planned for.

    Args:
        jobs: Jobs with pending problems and time to answer them.
        batches: Live batches of the fleet.
        arrivals: Of problems of the model.
        extra_branches: As for `Bounds`.
        num_reviewed: As for `place`.
    """
    jobs, batches = jobs_table(jobs), batches_table(batches)

    def placed(rows: Fleet) -> Bounds:
        bounds = Bounds(rows, jobs, batches, now, config, extra_branches, arrivals)
        return place(bounds, num_reviewed)

    used = limited(fleet, jobs, batches, now, config, arrivals)
    bounds = placed(used)
    if used is fleet or not bounds.late:
        return bounds
    on_all = placed(fleet)
    return on_all if len(on_all.late) < len(bounds.late) else bounds
