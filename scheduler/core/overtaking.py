"""Work that will come and go first: how long jobs wait for rows if as much comes as of late.

Theory of operation: a fluid model. A job waits for q seconds of work that is there. Until s from
now `rate_c * s` problems of class c come, each worth e seconds of all rows, and those that are due
before the job go first: of a class that is given `time_c`, the ones that come until
`w_c = due - time_c`. So the job has waited long enough at the first s at which

    q + sum over c of rate_c * e * min(s, w_c) = s

which is linear in s between the w_c. Where those of least w_c do not matter any more by then,

    s = (q + e * sum over those of rate_c * w_c) / (1 - e * sum over the others of rate_c)

Limits: a problem that comes costs as much as one of the job; bursts are left out; a job's own
problems, come lately, count where others of their octave are given less time.
"""

from typing import NamedTuple

import numpy as np

from scheduler.core.latency import FloatArray
from scheduler.core.snapshot import Arrivals

FOREVER_S = 1e9
LEAST_REST = 1e-9
"""Share of the rows that arrivals leave at least, to divide by."""


class Wait(NamedTuple):
    """How a job waits for rows, in expected seconds.

    Attributes:
        ahead_s: Work before it that is there.
        passing_s: Delay of its last start by work that will come.
        spread_s: Time from its first start to its last, as rows come free one by one.
    """

    ahead_s: float
    passing_s: float = 0.0
    spread_s: float = 0.0

    @property
    def last_s(self) -> float:
        """Until all of it has rows, or the last of them is free for it."""
        return self.ahead_s + self.passing_s


def passing_s(
    queue_s: FloatArray, each_s: FloatArray, due_s: FloatArray, arrivals: Arrivals
) -> FloatArray:
    """Seconds by which work that comes, and is due before these jobs, delays them; (jobs,) as all.

    Args:
        queue_s: Seconds of work that they wait for.
        each_s: Seconds for which a problem that comes keeps all rows.
        due_s: Seconds until they are due; infinite for jobs that all promises pass.
        arrivals: What was promised of late passes, best efforts and refused jobs do not.
    """
    coming = sorted(arrivals.promised, reverse=True)
    work_s, rest = queue_s, each_s * (sum(number for _, number in coming) / arrivals.over_s)
    wait_s, is_over = np.zeros_like(queue_s), np.zeros(queue_s.shape, dtype=bool)
    # What is given most time stops to matter first.
    for given_s, number in coming:
        until_s = np.clip(due_s - given_s, 0.0, FOREVER_S)
        # As much as the rows can do, or more, leaves none for those who wait.
        is_full = (rest >= 1.0) & (work_s > 0.0)
        reached_s = np.where(is_full, np.inf, work_s / np.maximum(1.0 - rest, LEAST_REST))
        wait_s = np.where(is_over, wait_s, reached_s)
        is_over |= reached_s <= until_s
        load = each_s * (number / arrivals.over_s)
        work_s, rest = work_s + load * until_s, rest - load
    return np.asarray(np.where(is_over, wait_s, work_s) - queue_s)
