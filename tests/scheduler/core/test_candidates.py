"""The candidates of one job, and the split that it would get alone."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.fallback import fallback
from scheduler.core.fleet import Fleet
from scheduler.core.offers import all_candidates, candidates_of
from scheduler.core.plan import Plan
from scheduler.core.stopping import CUT_SHARE
from tests.scheduler.core.alone import best_plan
from tests.scheduler.core.worlds import ANSWERS, LATENCY, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])


def test_a_plan_fits_its_deadline_and_its_bounds() -> None:
    found = best_plan(FLEET, job(max_branches=6, max_tokens=700), CONFIG, time_left_s=60.0)
    assert found is not None
    plan, forecast = found
    assert forecast.finish_p50_s < forecast.finish_p95_s <= 60.0 - CONFIG.reserve_s
    assert plan.num_branches <= 6
    assert plan.max_tokens <= 700
    assert plan.num_speculative_tokens in FLEET.draft_lengths


def test_drafts_of_short_branches_suit_the_long_ones_beside_them() -> None:
    fleet = Fleet.of([worker(rows=128, latency=replace(LATENCY, context_s=5e-7))])
    few = job(num_pending=8)
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
