"""What the plans in force promise, once what other jobs do meanwhile is counted.

Theory of operation: accuracy and cost are those of the job's class, beside the branches that are
there. But a job that lasts is joined by problems that come, and the more rows of an engine are busy
the longer each token takes. By Little's law `rate * row-seconds of a problem` rows are busy with
what comes, if it takes the plan that this job has. So finishes are those of the class beside so
many more branches. Like `overtaking` that moves forecasts only: what is admitted and planned rests
on the work that is there. The finish promised at submit is such a forecast, so what it forbids to
the upgrades of others (`upgrades._promised_limit_s`) is less than it would be without.

Limits: accuracy counts the branches that end at the speed of now; bursts are left out; what comes
is there at once.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.candidates import Candidates
from scheduler.core.fallback import fallback
from scheduler.core.kinds import Kind
from scheduler.core.latency import FloatArray
from scheduler.core.lookup import entries
from scheduler.core.menus import shares_of
from scheduler.core.overtaking import Wait
from scheduler.core.packed import Packed
from scheduler.core.plan import Forecast, Plan

IntArray = NDArray[np.int64]


def packed(
    bounds: Bounds, index: int, wait: Wait | None = None, stays: Plan | None = None
) -> Packed:
    """The chosen plan of one job with its forecast.

    Args:
        wait: For rows, as its place in line tells; by default for the jobs before it only.
        stays: The plan itself, when that is known already.
    """
    job, chosen = bounds.jobs[index], int(bounds.chosen[index])
    wait = wait or Wait(bounds.ahead_s(index))
    if chosen == LATE:
        left_s = float(bounds.time_left_s[index])
        late = fallback(
            bounds.fleet.pooled, job, bounds.config, time_left_s=left_s, ahead_s=wait.ahead_s
        )
        return Packed(job, *late, is_in_time=False)
    menus, number = bounds.menus, bounds.classes[index]
    option = int(menus.order[number, chosen])
    promise = forecast_of(bounds, index, option, wait, float(bounds.cut_s[index]))
    return Packed(job, stays or menus.options[number].plan(option), promise, is_in_time=True)


def forecast_of(bounds: Bounds, index: int, option: int, wait: Wait, limit_s: float) -> Forecast:
    """What one of a job's options promises.

    Args:
        option: Position in `Bounds.options`.
        wait: For rows.
        limit_s: Seconds until the deadline cuts what still runs.
    """
    menus, waits_s = bounds.menus, (wait.last_s, wait.last_s * bounds.stretch)
    options: Candidates = menus.options[bounds.classes[index]]
    now: Forecast = options.forecast(option, *waits_s, limit_s, bounds.scale(index), wait.spread_s)
    [at] = _later(bounds, np.array([index]), options.row_seconds[[option]])
    if at < 0:
        return now
    plan = options.plan(option)
    # As if it were in force: a class keeps the best draft lengths and that one.
    kind = Kind.of(bounds.jobs[index])._replace(draft=plan.num_speculative_tokens)
    [number] = menus.classes(np.array([bounds.jobs.owner.kinds.of(kind)]), np.array([at]))
    later: Candidates = menus.options[number]
    same = later.find(plan)
    if same is None:
        return now
    p50_s = min(waits_s[0] + float(later.p50_s[same]), limit_s)
    p95_s = min(waits_s[1] + float(later.p95_s[same]), limit_s)
    return replace(now, finish_p50_s=p50_s, finish_p95_s=p95_s)


def finishes_s(bounds: Bounds, last_s: FloatArray) -> FloatArray:
    """P95 finish of each job under its chosen plan, infinite if it is late.

    Args:
        last_s: As in `Wait`, of each job.
    """
    menus, classes, chosen = bounds.menus, bounds.classes, bounds.chosen
    is_late = chosen == LATE
    cost = np.where(is_late, 0.0, entries(menus.row_seconds, classes, chosen))
    at = _later(bounds, np.arange(len(chosen)), cost)
    slowed = np.flatnonzero(at >= 0)
    if slowed.size:
        later = menus.classes(bounds.table["kind"][slowed], at[slowed])
        same = menus.find(later, entries(menus.code, classes[slowed], chosen[slowed]))
        classes, chosen = classes.copy(), chosen.copy()
        found = slowed[same >= 0]
        classes[found], chosen[found] = later[same >= 0], same[same >= 0]
    finish_s = last_s * bounds.stretch + entries(menus.p95_s, classes, chosen)
    return np.asarray(np.where(is_late, np.inf, np.minimum(finish_s, bounds.cut_s)))


def _later(bounds: Bounds, jobs: IntArray, cost: FloatArray) -> IntArray:
    """Sixteenths of the rows that others will hold beside these jobs, -1 where no more than now.

    Args:
        cost: Row-seconds of each job, of which a problem that comes takes as much as one of its.
    """
    others = bounds.others[jobs]
    if not bounds.arrivals.numbers or (others >= bounds.rows).all():
        return np.full(len(jobs), -1)
    coming = bounds.others_per_s(jobs) * cost / bounds.table["num_rounded"][jobs]
    now, later = shares_of(
        np.array([others, np.minimum(others + coming, bounds.rows)]), bounds.rows
    )
    return np.asarray(np.where(later > now, later, -1))
