"""Which promised deadlines are at risk, told before they are missed, and which no longer are.

Theory of operation: a job is late when even the plan that needs the least time would end after its
deadline with 5%, behind the work before it. Plans in force use the time there is, so they do not
tell. What is late is told once. It is on track again only when that plan leaves `recovery_share` of
the time free, so that a job at the edge does not go back and forth. A job that nobody serves is at
risk until somebody does, and one whose problems are all with workers when it takes longer than its
P95 finish. Only changes are returned; what was told is in the views.
"""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.columns import Jobs
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import RISKS, Risk
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.planning import RELATIVE_REFRESH
from scheduler.core.snapshot import JobView

IntArray = NDArray[np.int64]

_FAR_S = 1e9
"""A finish so far away, or never, is not worth an instant."""

_NO_RISK, _NO_WORKER, _TOO_LATE, _OVERDUE = range(len(RISKS))


def risks_of_planned(bounds: Bounds) -> list[Risk]:
    """Changes among jobs that were planned, nearest deadline first."""
    told = bounds.table["risk"]
    is_late = bounds.chosen == LATE
    doubtful = np.flatnonzero(bounds.table["is_promised"] & (is_late | (told != _NO_RISK)))
    if not doubtful.size:
        return []
    told, is_late = told[doubtful], is_late[doubtful]
    least_s = _least_s(bounds, doubtful)
    left_s = bounds.time_left_s[doubtful]
    is_missed = is_late & (least_s > left_s)
    room_s = (1.0 - bounds.config.recovery_share) * (left_s - bounds.config.reserve_s)
    is_well = ~is_late & ((least_s <= room_s) | (told == _NO_WORKER))
    now = np.select([is_missed, is_well], [_TOO_LATE, _NO_RISK], default=told)
    return [
        _risk(bounds.jobs[int(doubtful[i])], int(now[i]), float(least_s[i]))
        for i in np.flatnonzero(now != told)[: bounds.config.max_refreshed].tolist()
    ]


def risks_of_others(
    jobs: Jobs, fleets: Mapping[str, Fleet], now: datetime, config: SchedulerConfig
) -> list[Risk]:
    """Changes among jobs that nobody serves, or whose problems are all with workers."""
    columns, names = jobs.columns, jobs.owner.names
    left_s = columns["deadline_s"] - now.timestamp()
    is_open = columns["num_pending"] + columns["num_in_flight"] > 0
    counts = columns["is_live"] & columns["is_promised"] & is_open & (left_s > config.reserve_s)
    is_served = np.isin(columns["model"], names.of_all(fleets))
    allowed_s = np.maximum(config.refresh_s, RELATIVE_REFRESH * left_s)
    is_over = now.timestamp() > columns["predicted_s"] + allowed_s
    is_handed_out = is_served & (columns["num_pending"] == 0)
    told = columns["risk"]
    found = told.copy()
    found[is_handed_out & (told == _NO_WORKER)] = _NO_RISK
    found[is_handed_out & is_over & (told <= _NO_WORKER)] = _OVERDUE
    found[~is_served & (told == _NO_RISK)] = _NO_WORKER
    found[~counts] = told[~counts]
    changed = np.flatnonzero(found != told).tolist()
    changed = sorted(changed, key=lambda i: (left_s[i], jobs[i].key))[: config.max_refreshed]
    return [_risk(jobs[i], int(found[i]), np.inf) for i in changed]


def _risk(job: JobView, risk: int, finish_p95_s: float) -> Risk:
    known_s = finish_p95_s if finish_p95_s < _FAR_S else None
    return Risk(job.id, RISKS[risk], known_s, job.part)


def _least_s(bounds: Bounds, jobs: IntArray) -> FloatArray:
    """Seconds until these jobs would end with 95% under the plans that need the least time."""
    menus, classes = bounds.menus, bounds.classes[jobs]
    before_s = bounds.before_s()[jobs]
    # As in `placing`, wide plans are for jobs that wait for nobody.
    first_narrow = (menus.cheapest_narrow[classes] >= 0).argmax(axis=1) - 1
    narrow_s = np.where(first_narrow < 0, np.inf, menus.needed_s[classes, first_narrow])
    own_s = np.where(before_s <= 0.0, menus.needed_s[classes, 0], narrow_s)
    return np.asarray(before_s * bounds.stretch + own_s)
