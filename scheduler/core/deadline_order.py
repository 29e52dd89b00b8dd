"""Which of two jobs stands before the other."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.columns import Jobs
from scheduler.core.snapshot import JobView


def deadline_order(job: JobView) -> tuple[bool, datetime, datetime, str, int]:
    """Earliest deadline first, then first come, then by id so that the order is total.

    Behind all jobs with a promise come best efforts.
    """
    return (not job.is_promised, job.deadline_at, job.created_at, job.id, job.part)


def in_deadline_order(jobs: Jobs) -> NDArray[np.int64]:
    """Positions of the jobs, in this order."""
    deadline_s, is_promised = jobs.columns["deadline_s"], jobs.columns["is_promised"]
    order = deadline_s.argsort()
    order = np.concatenate([order[is_promised[order]], order[~is_promised[order]]])
    tied = np.flatnonzero(np.diff(deadline_s[order]) == 0)
    if tied.size:
        # Among themselves, tied jobs take the same places in order.
        places = np.union1d(tied, tied + 1)
        order[places] = sorted(order[places], key=lambda index: deadline_order(jobs[index]))
    return order
