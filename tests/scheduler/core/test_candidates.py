"""The candidates of one job, and the split that it would get alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.capped import capped
from scheduler.core.config import SchedulerConfig
from scheduler.core.fallback import fallback
from scheduler.core.fleet import Fleet
from scheduler.core.grid import NUM_CAPS, Grid
from scheduler.core.latency import LatencyProfile
from scheduler.core.offers import all_candidates, candidates_of
from scheduler.core.plan import Plan, Width
from scheduler.core.stopping import CUT_SHARE
from scheduler.core.successive import uncut_tokens
from tests.scheduler.core.alone import best_plan
from tests.scheduler.core.worlds import ANSWERS, LATENCY, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])
_easier = np.asarray(ANSWERS.weights) * np.asarray(ANSWERS.difficulty)[:, None] ** 12
# Nearly all branches are right, so that most votes are clear soon.
EASY = Fleet.of(
    [
        worker(
            answers=replace(ANSWERS, weights=tuple(map(tuple, (_easier / _easier.sum()).tolist())))
        )
    ]
)
# Reading weights dominates: more rows cost next to nothing per step.
MEMORY_BOUND = replace(
    LATENCY, token_knots=(0.0,), token_slopes_s=(1e-7,), context_s=0.0, draft_row_s=0.0
)


def accuracy_within(time_left_s: float, fleet: Fleet = FLEET, num_pending: int = 40) -> float:
    found = best_plan(fleet, job(num_pending=num_pending), CONFIG, time_left_s=time_left_s)
    return found[1].accuracy if found else 0.0


def fleet_of(latency: LatencyProfile, rows: int = 32) -> Fleet:
    return Fleet.of([worker(rows=rows, latency=latency)])


def test_a_plan_fits_its_deadline_and_its_bounds() -> None:
    found = best_plan(FLEET, job(max_branches=6, max_tokens=700), CONFIG, time_left_s=60.0)
    assert found is not None
    plan, forecast = found
    assert forecast.finish_p50_s < forecast.finish_p95_s <= 60.0 - CONFIG.reserve_s
    assert plan.num_branches <= 6
    assert plan.max_tokens <= 700
    assert plan.num_speculative_tokens in FLEET.draft_lengths


def test_drafts_of_short_branches_suit_the_long_ones_beside_them() -> None:
    fleet, few = fleet_of(replace(LATENCY, context_s=5e-7), rows=128), job(num_pending=8)
    crowded = candidates_of(fleet, few, CONFIG, other_branches=128.0)
    drafts = np.array(fleet.draft_lengths)

    def best(context: float) -> int:
        """The draft length that is fastest where rows have this context on average."""
        tpot_s = fleet.tpot_s(128, drafts, few.mean_prompt_tokens + context)
        return int(drafts[tpot_s.argmin()])

    whole = ANSWERS.length_quantile(0.5).item()
    shortest = float(crowded.caps.min())
    assert best(shortest / 2) < best(whole)
    assert set(crowded.plans[:, 1].tolist()) == {best(whole)}


def test_nothing_fits_into_no_time() -> None:
    assert best_plan(FLEET, job(), CONFIG, time_left_s=1.0) is None


def test_a_client_bound_below_every_cap_is_the_cap() -> None:
    found = best_plan(FLEET, job(max_tokens=50), CONFIG, time_left_s=60.0)
    assert found is not None
    assert found[0].max_tokens == 50


def test_the_model_length_bounds_the_cap() -> None:
    short = worker()
    short = replace(short, spec=replace(short.spec, max_model_len=600))
    found = best_plan(Fleet.of([short]), job(), CONFIG, time_left_s=600.0)
    assert found is not None
    assert found[0].max_tokens <= 500


def test_a_batch_fills_about_half_of_the_rows() -> None:
    found = best_plan(FLEET, job(max_branches=4), CONFIG, time_left_s=600.0)
    assert found is not None
    assert found[0].num_branches >= 3
    assert found[0].wave_size == 16 // found[0].num_branches


def test_branches_follow_one_another_where_a_longer_time_gives_more_for_less() -> None:
    few = candidates_of(EASY, job(num_pending=1, max_branches=16), CONFIG)
    in_turn = few.plans[:, 3] > few.plans[:, 0]
    at_once = np.flatnonzero(~in_turn & (few.plans[:, 0] == 8))
    reached = few.accuracy[at_once].max() - CONFIG.accuracy_tie
    at_once = at_once[few.accuracy[at_once] >= reached]
    best = at_once[few.needed_s[at_once].argmin()]
    better = in_turn & (few.accuracy >= reached)
    better &= few.row_seconds < 0.7 * few.row_seconds[best]
    assert better.any()
    assert (few.needed_s[better] > few.needed_s[best]).all()
    assert (few.plans[in_turn, 3] <= 16).all()


def test_only_few_branches_follow_where_a_bound_cuts_or_votes_stay_open() -> None:
    def pairs(fleet: Fleet, most: int, max_tokens: int | None = None) -> set[tuple[int, ...]]:
        plans = candidates_of(fleet, job(max_branches=most, max_tokens=max_tokens), CONFIG).plans
        return set(map(tuple, plans[plans[:, 3] > 0][:, [0, 3]].tolist()))

    assert pairs(EASY, 16, max_tokens=700) == pairs(FLEET, 16) == {(1, 2), (2, 3), (3, 5)}
    assert pairs(FLEET, 4) == {(1, 2), (2, 3), (3, 4)}
    assert pairs(FLEET, 2) == {(1, 2)}
    assert pairs(FLEET, 1) == set()


def test_a_third_branch_that_is_stopped_where_two_agree_costs_less() -> None:
    options = candidates_of(FLEET, job(num_pending=4), CONFIG)

    def best(width: int, most: int) -> tuple[float, float]:
        own = (options.plans[:, [0, 3]] == (width, most)).all(axis=1)
        own &= options.accuracy >= options.accuracy[own].max() - 0.001
        return float(options.accuracy[own].max()), float(options.row_seconds[own].min())

    (at_once, dear), (after_two, cheap) = best(3, 0), best(2, 3)
    assert cheap < 0.9 * dear
    assert after_two > at_once - 0.02


def test_second_branches_are_forecast_as_cut_only_where_something_cuts() -> None:
    def grid_of(bound: int) -> Grid:
        engine = worker()
        spec = replace(engine.spec, max_model_len=100_000)
        return Grid.of(Fleet.of([replace(engine, spec=spec)]), job(max_tokens=bound), CONFIG)

    # Longer than the longest cap, which is no bound on what runs under the deadline.
    whole = grid_of(2 * int(ANSWERS.length_quantile(1.0)))
    assert whole.caps[-1] < uncut_tokens(ANSWERS)
    assert whole.cut == math.inf
    short = int(ANSWERS.length_quantile(0.95))
    assert 0.9 * short < grid_of(short).cut <= short
    retry = [width.max_branches for width in whole.widths].index(2)
    uncut, cut = (
        grid.forecast([job()]).accuracy[0, retry]
        for grid in (whole, whole._replace(cut=float(short)))
    )
    assert (uncut > cut).any()


def test_no_single_branch_is_followed_where_none_is_to_be_offered() -> None:
    wide = replace(CONFIG, branch_grid=(4, 2))
    plans = candidates_of(FLEET, job(max_branches=16), wide).plans
    assert set(plans[:, 0]) == {2, 4}
    assert set(plans[:, 3]) == {0, 3}
    # What the operator asks for is offered all the same.
    in_turn = replace(wide, successive_grid=((1, 16),))
    assert set(candidates_of(EASY, job(max_branches=16), in_turn).plans[:, 3]) == {0, 3, 16}


def test_a_second_branch_for_a_missing_answer_ends_about_when_one_does() -> None:
    # Few problems say little of the latest of them, but half of the jobs do not have one.
    for num_seen, name in ((15, "p50_s"), (15_000, "p95_s")):
        seen = replace(ANSWERS, num_problems_seen=num_seen)
        options = candidates_of(Fleet.of([worker(answers=seen)]), job(num_pending=20), CONFIG)
        of_one, finish_s = options.plans[:, 0] == 1, getattr(options, name)
        once, again = (of_one & (options.plans[:, 3] == most) for most in (0, 2))
        assert finish_s[again].max() < 1.5 * finish_s[once].max()


def test_branches_follow_one_another_for_long_where_votes_settle_most() -> None:
    by_difficulty = np.asarray(ANSWERS.weights).sum(axis=1)
    scattered = np.zeros_like(ANSWERS.weights)
    scattered[:, -1] = by_difficulty  # wrong answers hardly ever agree
    weights = tuple(map(tuple, scattered.tolist()))
    fleet = Fleet.of([worker(answers=replace(ANSWERS, weights=weights))])
    assert (candidates_of(fleet, job(max_branches=16), CONFIG).plans[:, 3] > 2).any()


def test_drafts_shrink_as_rows_fill() -> None:
    few = best_plan(FLEET, job(num_pending=1, max_branches=1), CONFIG, time_left_s=600.0)
    many = best_plan(
        Fleet.of([worker(rows=128)]),
        job(num_pending=2000, max_branches=1),
        CONFIG,
        time_left_s=6000.0,
    )
    assert few is not None
    assert many is not None
    assert few[0].num_speculative_tokens > many[0].num_speculative_tokens


def test_work_ahead_delays_and_cheapens_the_plan() -> None:
    free = best_plan(FLEET, job(), CONFIG, time_left_s=60.0)
    behind = best_plan(FLEET, job(), CONFIG, time_left_s=60.0, ahead_s=35.0)
    assert free is not None
    assert behind is not None
    assert behind[1].accuracy < free[1].accuracy
    assert behind[1].finish_p95_s <= 60.0 - CUT_SHARE * CONFIG.reserve_s
    assert behind[1].row_seconds < free[1].row_seconds


def test_near_equal_accuracy_goes_to_the_cheaper_plan() -> None:
    options = candidates_of(FLEET, job(), CONFIG)
    best = options.best(options.needed_s < 1e9, CONFIG)
    assert best is not None
    rivals = options.accuracy >= options.accuracy.max() - CONFIG.accuracy_tie
    assert options.row_seconds[best] <= options.row_seconds[options.accuracy.argmax()]
    assert options.accuracy[best] >= options.accuracy[rivals].min() - CONFIG.accuracy_tie


def test_a_stored_plan_is_found_among_candidates_whatever_its_wave() -> None:
    found = best_plan(FLEET, job(), CONFIG, time_left_s=60.0)
    assert found is not None
    stored = replace(found[0], wave_size=99)
    options = candidates_of(FLEET, job(plan=stored), CONFIG)
    index = options.find(stored)
    assert index is not None
    assert options.plan(index) == found[0]
    assert options.find(None) is None
    assert options.find(replace(stored, max_tokens=7)) is None


def test_jobs_forecast_together_have_the_candidates_of_each_alone() -> None:
    learned = replace(ANSWERS, family="algebra", num_branches_seen=10**6)
    jobs = [
        replace(
            job(num_pending=number, max_branches=width, max_tokens=tokens),
            mean_prompt_tokens=prompt,
        )
        for number in (1, 7, 300)
        for width in (1, 16, 64)
        for prompt in (20.0, 900.0)
        for tokens in (None, 90, 700)
    ]
    jobs += [replace(one, answers=learned, plan=Plan(4, 3, 100, 1)) for one in jobs]
    others = [float(index % 5) * 9 for index in range(len(jobs))]
    for one, beside, options in zip(
        jobs, others, all_candidates(FLEET, jobs, CONFIG, others), strict=True
    ):
        alone = candidates_of(FLEET, one, CONFIG, beside)
        assert options.plans.tolist() == alone.plans.tolist()
        for name in ("p50_s", "p95_s", "needed_s", "accuracy", "row_seconds"):
            assert getattr(options, name) == pytest.approx(getattr(alone, name), rel=1e-12)


def test_short_of_time_a_fallback_still_answers_what_it_can() -> None:
    # 2.5 s are too short for any plan that admission would promise.
    few = job(num_pending=FLEET.rows)
    assert best_plan(FLEET, few, CONFIG, time_left_s=2.5) is None
    plan, forecast = fallback(FLEET, few, CONFIG, time_left_s=2.5)
    assert forecast.finish_p95_s <= 2.25
    assert 0.05 < forecast.accuracy < 0.6
    assert plan.max_tokens < 1000


def test_a_fallback_exists_even_when_hardly_any_time_is_left() -> None:
    plan, forecast = fallback(FLEET, job(num_pending=10_000), CONFIG, time_left_s=0.6)
    assert plan.num_branches == 1
    assert plan.max_tokens >= 1
    assert forecast.accuracy < 0.01


def test_a_fallback_answers_some_problems_rather_than_all_of_them_wrong() -> None:
    fit = best_plan(FLEET, job(), CONFIG, time_left_s=30.0)
    assert fit is not None
    # Far more problems than fit in 30 s: short caps would fit, and answer hardly anything.
    plan, forecast = fallback(FLEET, job(num_pending=5_000), CONFIG, time_left_s=30.0)
    assert plan.max_tokens > 300
    assert forecast.finish_p50_s > 30.0
    assert 0.02 < forecast.accuracy < fit[1].accuracy


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


@pytest.mark.parametrize(("pairs", "most"), [((), {0, 2, 3, 5}), (((1, 200),), {0, 2, 3, 5, 64})])
def test_a_grid_without_successive_plans_or_with_very_long_ones_works(
    pairs: tuple[tuple[int, int], ...], most: set[int]
) -> None:
    config = replace(CONFIG, successive_grid=pairs)
    assert set(candidates_of(EASY, job(max_branches=64), config).plans[:, 3]) == most
    assert best_plan(EASY, job(max_branches=64), config, time_left_s=3000.0) is not None


def test_what_a_plan_needs_to_be_kept_is_at_most_its_p95() -> None:
    few = candidates_of(FLEET, job(num_pending=1), CONFIG)
    assert (few.kept_s <= few.needed_s).all()
    assert (few.kept_s < few.needed_s - 1.0).any()
    many = candidates_of(FLEET, job(num_pending=400), CONFIG)
    queued = many.throughput_s > 0.0
    assert queued.any()
    assert (many.kept_s[queued] == many.needed_s[queued]).all()
