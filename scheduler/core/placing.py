"""First plans: stored ones for most jobs of a crowd, the cheapest that fit for those under review.

Theory of operation: planning thousands of jobs anew in every tick is neither possible nor useful:
little changes between two ticks, and stored plans stay anyway unless a change pays (`settling`). So
a tick reviews a random share of the jobs, drawn from its instant and their ids, and all others keep
the plan in force as a given cost in the bounds. Always reviewed are jobs without a plan that is a
candidate today: new ones, late ones, and all of them when workers or profiles changed. A job that
no longer keeps its bound is reviewed too, and when that does not save it, all jobs up to it are, as
cheaper plans of those before it may. So every promise is kept as in a review of all jobs, while
better plans for what changed slowly come within some ticks: after k ticks of a share s the chance
to be still waiting is (1 - s) ** k.

Under review each job takes its cheapest plan that fits. Just before a deadline only wide and short
plans do; behind other work they do not count (`Candidates.is_narrow`), since for few answers they
would keep many rows from those who wait. A job that fits none gets a fallback and no longer binds
the others; it keeps its place in line while that makes nobody late, and goes behind all others when
it would. A best effort always gets a fallback, and goes behind all jobs with a promise.

Tenants: somebody has to lose when the work turns out longer than was forecast, and it is not a
tenant that asks for less than its share. Its late jobs keep their places in line, whoever then is
late behind them: many small jobs of one tenant could otherwise make a larger one of another wait
forever, as each of them by itself is easier to save.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, ROUNDING_S, Bounds
from scheduler.core.latency import FloatArray

IntArray = NDArray[np.int64]

MAX_PASSES = 64
"""Passes over all jobs at once before the rest is walked one by one."""
MAX_FLOAT = np.finfo(np.float64).max


def place(bounds: Bounds, num_reviewed: int | None = None) -> Bounds:
    """Give every job its first plan.

    Args:
        num_reviewed: Jobs in turn for a review, on average; None for all.
    """
    bounds.is_open = _reviewed(bounds, num_reviewed)
    standing = np.flatnonzero(~bounds.is_open)
    bounds.choose(standing, bounds.stored[standing])
    stays = np.zeros(len(bounds.jobs), dtype=bool)
    _choose(bounds, stays)
    _keep_places(bounds, stays)
    _place_late(bounds, stays)
    return bounds


def _reviewed(bounds: Bounds, num_reviewed: int | None) -> NDArray[np.bool_]:
    """Jobs in turn for a review, and those that have nothing to stand on."""
    if num_reviewed is None or num_reviewed >= len(bounds.jobs):
        return np.ones(len(bounds.jobs), dtype=bool)
    in_turn = draws(bounds.table["digest"], bounds.now_s) * len(bounds.jobs) < num_reviewed
    return np.asarray(in_turn | (bounds.stored < 0) | ~bounds.table["is_promised"])


def draws(digests: IntArray, now_s: float) -> FloatArray:
    """Numbers from 0 to 1, as good as drawn for every digest of 32 bits and instant."""
    mixed = (digests ^ crc32(repr(now_s).encode())).astype(np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((mixed >> np.uint64(32)) / 2.0**32)


def _choose(bounds: Bounds, stays: NDArray[np.bool_]) -> None:
    """Plans for the open jobs, and for standing ones where that saves somebody.

    Args:
        stays: Late jobs that keep their places; they are not open.
    """
    _choose_cheapest(bounds)
    while (at_risk := _at_risk(bounds, stays)).size:
        standing = at_risk[~bounds.is_open[at_risk]]
        if standing.size:
            bounds.is_open[standing] = True
        else:
            before = slice(at_risk[-1] + 1)
            bounds.is_open[before] = ~stays[before]
        _choose_cheapest(bounds)


def _at_risk(bounds: Bounds, stays: NDArray[np.bool_]) -> IntArray:
    """Jobs that a cheaper plan may save, their own or those of standing ones before them."""
    is_open = bounds.is_open
    is_standing = ~is_open & ~stays
    if not is_standing.any():
        return np.zeros(0, dtype=np.int64)
    is_late = is_standing & (bounds.slack_s() < -ROUNDING_S)
    behind_standing = np.cumsum(is_standing) > 0
    lost = np.flatnonzero(
        is_open & (bounds.chosen == LATE) & bounds.table["is_promised"] & behind_standing
    )
    # What is late even behind nothing is beyond help.
    room_s = bounds.limit_s[lost] - bounds.running_s[lost] * bounds.stretch
    is_late[lost] = bounds.menus.num_fitting(bounds.classes[lost], room_s) > 0
    return np.flatnonzero(is_late)


def _choose_cheapest(bounds: Bounds) -> None:
    """Each open job's cheapest plan that fits behind the plans of those before it.

    All jobs choose at once behind the costs of the last pass; a pass settles at least one job
    more, as the first job depends on no other, and usually nearly all.
    """
    jobs = np.flatnonzero(bounds.is_open & bounds.table["is_promised"])
    bounds.give_up(np.flatnonzero(bounds.is_open))
    for _ in range(MAX_PASSES):
        cheapest = _cheapest_behind(bounds, jobs, bounds.before_s()[jobs])
        if (cheapest == bounds.chosen[jobs]).all():
            return
        _put(bounds, jobs, cheapest)
    cheapest = _cheapest_behind(bounds, jobs, bounds.before_s()[jobs])
    _walk(bounds, jobs[int((cheapest != bounds.chosen[jobs]).argmax()) :])


def _walk(bounds: Bounds, jobs: IntArray) -> None:
    """`_choose_cheapest` for these jobs, one by one."""
    bounds.give_up(jobs)
    before_s, added_s = bounds.before_s(), 0.0
    for index in jobs.tolist():
        one = np.array([index])
        _put(bounds, one, _cheapest_behind(bounds, one, before_s[one] + added_s))
        added_s += float(bounds.cost_s[index])


def _put(bounds: Bounds, jobs: IntArray, candidates: IntArray) -> None:
    fits = candidates != LATE
    bounds.choose(jobs[fits], candidates[fits])
    bounds.give_up(jobs[~fits])


def _cheapest_behind(bounds: Bounds, jobs: IntArray, before_s: FloatArray) -> IntArray:
    room_s = bounds.limit_s[jobs] - before_s * bounds.stretch
    menus, classes = bounds.menus, bounds.classes[jobs]
    fitting = menus.num_fitting(classes, room_s)
    is_first = before_s <= 0.0
    narrow, any_width = menus.cheapest_narrow[classes, fitting], menus.cheapest[classes, fitting]
    return np.asarray(np.where(is_first, any_width, narrow))


def _keep_places(bounds: Bounds, stays: NDArray[np.bool_]) -> None:
    """Late jobs of tenants below their share stay in line, and others choose behind them.

    Args:
        stays: Nobody yet; those who do are noted in it.
    """
    table = bounds.table
    is_alone = (table["tenant"] == table["tenant"][:1]).all()
    if is_alone or not (table["is_promised"] & (bounds.chosen == LATE)).any():
        return
    is_below = _is_below_share(bounds)
    while (late := np.flatnonzero(is_below & (bounds.chosen == LATE) & ~stays)).size:
        # Few at first: who is late behind them may give room to the next. Then twice as many.
        late = late[: max(1, int(stays.sum()))]
        stays[late] = True
        bounds.is_open[late] = False
        bounds.wait_for(late, _wanted_s(bounds, late))
        _choose(bounds, stays)
    # Nobody before them gets a better plan at their cost.
    bounds.must_start_s[stays] = bounds.before_s()[stays]
    bounds.is_open |= stays


def _is_below_share(bounds: Bounds) -> NDArray[np.bool_]:
    """Promised jobs whose tenant wants less than its share of all pending work."""
    table = bounds.table
    cost_s = bounds.cost_s.copy()
    late = np.flatnonzero((bounds.chosen == LATE) & table["is_promised"])
    cost_s[late] = _wanted_s(bounds, late)
    _, tenant = np.unique(table["tenant"], return_inverse=True)
    own_s = np.bincount(tenant, cost_s)[tenant]
    return np.asarray((own_s < table["tenant_share"] * cost_s.sum()) & table["is_promised"])


def _wanted_s(bounds: Bounds, late: IntArray) -> FloatArray:
    """What late jobs would cost with their cheapest plans, as far as their deadlines let them."""
    menus, classes = bounds.menus, bounds.classes[late]
    everything = menus.num_fitting(classes, np.full(late.shape, MAX_FLOAT))
    cheapest = menus.cheapest[classes, everything].astype(np.int64)
    wanted_s = bounds.costs_s(late, cheapest)
    # What does not fit before the deadline is not run, so it delays nobody.
    left_s = np.maximum(bounds.time_left_s[late] - bounds.before_s()[late], 0.0)
    return np.minimum(wanted_s, left_s)


def _place_late(bounds: Bounds, stays: NDArray[np.bool_]) -> None:
    """Let late jobs take rows in their place, nearest deadline first, while all bounds hold.

    Args:
        stays: Late jobs that have their place already.
    """
    late = np.flatnonzero((bounds.chosen == LATE) & ~stays)
    bounds.is_last[late] = True
    late = late[bounds.table["is_promised"][late]]
    wanted_s = _wanted_s(bounds, late)
    while late.size:
        fits = wanted_s <= bounds.slack_behind_s()[late]
        late, wanted_s = late[fits], wanted_s[fits]
        # As many at once as leave half of the slack to every job, at least one.
        is_safe = wanted_s.cumsum() <= bounds.slack_behind_s()[late] / 2
        together = max(1, int(np.append(is_safe, False).argmin())) if late.size else 0
        bounds.wait_for(late[:together], wanted_s[:together])
        bounds.is_last[late[:together]] = False
        late, wanted_s = late[together:], wanted_s[together:]
