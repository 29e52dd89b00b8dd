"""Branches that run on beyond the cap that accuracy counts, until the deadline cuts them."""

import numpy as np
import pytest

from scheduler.core.capped import capped
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.grid import NUM_CAPS
from scheduler.core.offers import candidates_of
from scheduler.core.plan import Width
from tests.scheduler.core.worlds import ANSWERS, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])


def test_what_the_deadline_cuts_is_as_accurate_as_the_time_left_lets_it_be() -> None:
    options = candidates_of(FLEET, job(num_pending=4), CONFIG)
    run_on = np.flatnonzero(options.runs_on & (options.plans[:, 3] == 0))
    assert run_on.size
    for index in run_on.tolist():

        def gain(left_s: float, index: int = index) -> float:
            forecast = options.forecast(index, 2.0, 3.0, 2.0 + left_s)
            return float(forecast.accuracy - options.accuracy[index])

        seconds = options.cap_s[index] * np.array([0.5, 1.0, 1.5, 2.0, 100.0])
        gains = [gain(s) for s in seconds.tolist()]
        assert gains == sorted(gains)
        # By then it is as accurate as told, and beyond the longer cap nothing is gained.
        assert gains[1] == pytest.approx(0.0, abs=1e-9)
        alike = (options.plans[:, [0, 3]] == options.plans[index, [0, 3]]).all(axis=1)
        longer = alike & (options.caps > options.caps[index])
        assert (gains[-1] > 0.0) == bool((options.accuracy[longer] > options.accuracy[index]).any())
        # A plan's cap is some tokens less than the cap of which it is the longer one.
        order = options.caps[alike].argsort()
        reached = np.interp(
            options.plans[index, 2] + NUM_CAPS,
            options.caps[alike][order],
            options.accuracy[alike][order],
        )
        assert gains[-1] <= reached - options.accuracy[index] + 1e-9
    for index in np.flatnonzero(~options.runs_on).tolist():
        assert options.forecast(index, 2.0, 3.0, 1e6).accuracy == options.accuracy[index]


def test_the_last_problems_of_a_queue_are_forecast_to_run_on() -> None:
    many = candidates_of(FLEET, job(num_pending=400), CONFIG)
    queued = (many.throughput_s > 0.0) & (many.plans[:, 3] == 0)
    assert queued.any()
    assert not many.runs_on[queued].any()
    # The plan needs what it takes under its own cap, but may finish later.
    assert (many.p95_s[queued] >= many.needed_s[queued] - 1e-9).all()
    assert (many.p95_s[queued] > many.needed_s[queued] + 1.0).any()


def test_a_queue_runs_on_while_its_last_problem_starts_in_time() -> None:
    longer = {}
    for num_pending in (36, 300):
        options = candidates_of(FLEET, job(num_pending=num_pending), CONFIG)
        is_one = (options.plans[:, [0, 3]] == (1, 0)).all(axis=1)
        queued = np.flatnonzero((options.throughput_s > 0.0) & is_one)
        caps, longest = options.caps[queued], options.plans[queued, 2]
        longer[num_pending] = (longest / caps)[caps.argmin()]
        # The last to start ends within its cap by the time that the plan needs.
        ends_s = options.throughput_s[queued] + options.cap_s[queued]
        runs_on = longest > caps
        assert runs_on.any()
        assert (ends_s <= options.needed_s[queued] + CONFIG.dispatch_s + 1e-9)[runs_on].all()
    # Where many wait the first leave their rows sooner.
    assert longer[36] > 1.5 > longer[300]


def test_a_branch_that_may_run_on_costs_what_it_may_take() -> None:
    options = candidates_of(FLEET, job(num_pending=4), CONFIG)
    is_one = options.runs_on & (options.plans[:, [0, 3]] == (1, 0)).all(axis=1)
    caps, longest = options.caps[is_one], options.plans[is_one, 2]
    until_cap, in_all = (
        capped(ANSWERS, (Width(1),), tuple(map(float, tokens))).work[0]
        for tokens in (caps, longest)
    )
    tokens = options.row_seconds[is_one] / (4 * options.cap_s[is_one] / caps)
    assert (in_all > 1.3 * until_cap).any()
    assert tokens == pytest.approx(in_all, rel=0.2)


def test_a_job_whose_rows_come_free_one_by_one_is_more_accurate() -> None:
    options = candidates_of(FLEET, job(num_pending=4), CONFIG)
    index = int(np.flatnonzero(options.runs_on & (options.accuracy < 0.5))[0])
    limit_s = 10.0 + float(options.cap_s[index])
    late, spread = (
        options.forecast(index, 10.0, 12.0, limit_s, spread_s=spread_s) for spread_s in (0.0, 8.0)
    )
    assert spread.accuracy > late.accuracy
    assert spread.finish_p95_s == late.finish_p95_s


def test_what_a_plan_needs_to_be_kept_is_at_most_its_p95() -> None:
    few = candidates_of(FLEET, job(num_pending=1), CONFIG)
    assert (few.kept_s <= few.needed_s).all()
    assert (few.kept_s < few.needed_s - 1.0).any()
    many = candidates_of(FLEET, job(num_pending=400), CONFIG)
    queued = many.throughput_s > 0.0
    assert queued.any()
    assert (many.kept_s[queued] == many.needed_s[queued]).all()
