"""More of anything never lowers what the best plan of one job promises."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.latency import LatencyProfile
from tests.scheduler.core.alone import best_plan
from tests.scheduler.core.worlds import LATENCY, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])
# Reading weights dominates: more rows cost next to nothing per step.
MEMORY_BOUND = replace(
    LATENCY, token_knots=(0.0,), token_slopes_s=(1e-7,), context_s=0.0, draft_row_s=0.0
)


def accuracy_within(time_left_s: float, fleet: Fleet = FLEET, num_pending: int = 40) -> float:
    found = best_plan(fleet, job(num_pending=num_pending), CONFIG, time_left_s=time_left_s)
    return found[1].accuracy if found else 0.0


def fleet_of(latency: LatencyProfile, rows: int = 32) -> Fleet:
    return Fleet.of([worker(rows=rows, latency=latency)])


@settings(max_examples=60, deadline=None)
@given(time_left_s=st.floats(1.0, 400.0), more_s=st.floats(0.0, 200.0), n=st.integers(1, 300))
def test_more_time_never_lowers_predicted_accuracy(
    time_left_s: float, more_s: float, n: int
) -> None:
    less = accuracy_within(time_left_s, num_pending=n)
    # Within a tie the cheaper plan wins.
    assert accuracy_within(time_left_s + more_s, num_pending=n) >= less - CONFIG.accuracy_tie


@settings(max_examples=40, deadline=None)
@given(time_left_s=st.floats(5.0, 200.0), gain=st.floats(0.0, 0.2), n=st.integers(1, 200))
@example(time_left_s=5.0, gain=0.046875, n=2)
def test_better_acceptance_never_lowers_predicted_accuracy(
    time_left_s: float, gain: float, n: int
) -> None:
    better = replace(LATENCY, acceptance=tuple(min(1.0, a + gain) for a in LATENCY.acceptance))
    less = accuracy_within(time_left_s, num_pending=n)
    # A tie for the cheaper plan, and one for what ends after the caps by which plans are compared.
    more = accuracy_within(time_left_s, fleet_of(better), n)
    assert more >= less - 2 * CONFIG.accuracy_tie


@settings(max_examples=40, deadline=None)
@given(time_left_s=st.floats(5.0, 200.0), rows=st.integers(8, 64), n=st.integers(1, 200))
def test_more_rows_that_cost_nothing_never_lower_predicted_accuracy(
    time_left_s: float, rows: int, n: int
) -> None:
    less = accuracy_within(time_left_s, fleet_of(MEMORY_BOUND, rows), n)
    more = accuracy_within(time_left_s, fleet_of(MEMORY_BOUND, 2 * rows), n)
    assert more >= less - 2 * CONFIG.accuracy_tie


@pytest.mark.parametrize("num_pending", [1, 40])
def test_a_faster_engine_never_plans_worse(num_pending: int) -> None:
    fast = replace(LATENCY, base_s=LATENCY.base_s / 2)
    for time_left_s in (5.0, 10.0, 20.0, 60.0):
        slow_accuracy = accuracy_within(time_left_s, num_pending=num_pending)
        fast_accuracy = accuracy_within(time_left_s, fleet_of(fast), num_pending)
        assert fast_accuracy >= slow_accuracy - CONFIG.accuracy_tie
