"""What plans promise once what comes is counted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.outlook import finishes_s, packed
from scheduler.core.placing import place
from scheduler.core.plan import Plan
from scheduler.core.snapshot import ARRIVAL_WINDOW_S, NO_ARRIVALS, Arrivals, JobView
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.worlds import NOW, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker(rows=64)])


def arrivals(per_s: float) -> Arrivals:
    return Arrivals(ARRIVAL_WINDOW_S, ((60.0, round(per_s * ARRIVAL_WINDOW_S)),))


def bounds_of(known: Arrivals, *jobs: JobView) -> Bounds:
    return place(Bounds(FLEET, jobs, [], NOW, CONFIG, arrivals=known))


def test_what_comes_slows_a_job_that_has_rows_and_changes_nothing_else_of_its_forecast() -> None:
    # A plan in force, so that the price of rows does not choose another one.
    one = job(num_pending=4, deadline_s=600.0, plan=Plan(4, 0, 400, 8))
    calm, some, much = (packed(bounds_of(arrivals(n), one), 0) for n in (0.0, 4.0, 40.0))
    assert calm == packed(bounds_of(NO_ARRIVALS, one), 0)
    assert calm.plan == some.plan == much.plan
    finishes = [item.forecast.finish_p95_s for item in (calm, some, much)]
    assert finishes == sorted(set(finishes))
    medians = [item.forecast.finish_p50_s for item in (calm, some, much)]
    assert medians == sorted(set(medians))
    for item in (some, much):
        as_calm = replace(calm.forecast, finish_p50_s=0.0, finish_p95_s=0.0)
        assert replace(item.forecast, finish_p50_s=0.0, finish_p95_s=0.0) == as_calm


def test_nobody_is_slowed_beyond_full_rows() -> None:
    one = job(num_pending=4, deadline_s=600.0, plan=Plan(4, 0, 400, 8))
    much, more = (packed(bounds_of(arrivals(n), one), 0) for n in (400.0, 4000.0))
    assert much == more


def test_a_job_does_not_slow_itself() -> None:
    one = replace(job(num_pending=20, deadline_s=600.0), created_at=NOW, num_problems=20)
    own = Arrivals(ARRIVAL_WINDOW_S, ((600.0, 20),))
    assert packed(bounds_of(own, one), 0) == packed(bounds_of(NO_ARRIVALS, one), 0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.floats(2.0, 300.0), st.integers(1, 80)), min_size=1, max_size=6),
    per_s=st.floats(0.0, 60.0),
)
def test_finishes_of_all_at_once_are_those_of_each(
    sizes: list[tuple[float, int]], per_s: float
) -> None:
    known = arrivals(per_s)
    jobs = [job(f"j{i}", deadline_s=s, num_pending=n) for i, (s, n) in enumerate(sizes)]
    bounds = bounds_of(known, *jobs)
    upgrade(bounds)
    plans = {item.job.id: item.plan for item in (packed(bounds, i) for i in range(len(jobs)))}
    # A draft length in force is always among the candidates.
    bounds = bounds_of(known, *(replace(one, plan=plans[one.id]) for one in jobs))
    found_s = finishes_s(bounds, bounds.before_s())
    for index in range(len(jobs)):
        if bounds.chosen[index] == LATE:
            assert found_s[index] == np.inf
            continue
        now = packed(bounds, index)
        # Another plan than the stored one may have a draft length that is none beside more rows.
        if now.plan.num_speculative_tokens == plans[now.job.id].num_speculative_tokens:
            assert found_s[index] == pytest.approx(now.forecast.finish_p95_s)
