"""Fitting latency: a known engine is recovered, noise is measured, knots are earned."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.fit import (
    PrefillMeasurement,
    StepMeasurement,
    by_context,
    fit_latency,
    held_out_error,
    with_runs,
)
from scheduler.core.latency import LatencyProfile
from scheduler.core.spread import run_sigma
from tests.scheduler.core.worlds import LATENCY

STRAIGHT = replace(LATENCY, token_knots=(0.0,), token_slopes_s=(6e-5,))


def measure(profile: LatencyProfile, noise: float = 0.0) -> list[StepMeasurement]:
    rng = np.random.default_rng(3)
    return [
        StepMeasurement(
            rows,
            draft,
            context * rows,
            float(profile.step_time_s(rows, draft, context * rows))
            * float(np.exp(noise * rng.standard_normal())),
        )
        for rows in (1, 2, 4, 8, 16, 32, 64)
        for draft in (0, 1, 2, 4, 8)
        for context in (128, 1024)
    ]


def fit(steps: list[StepMeasurement], **options: object) -> LatencyProfile:
    return fit_latency(
        steps,
        engine="replay",
        model="m",
        device="d",
        method="synthetic",
        measured_at="2026-01-01",
        **options,  # type: ignore[arg-type]
    )


def test_a_straight_engine_is_recovered_without_knots() -> None:
    profile = fit(measure(STRAIGHT))
    assert profile.token_knots == (0.0,)
    assert profile.base_s == pytest.approx(STRAIGHT.base_s, rel=1e-4)
    assert profile.token_slopes_s[0] == pytest.approx(6e-5, rel=1e-3)
    assert profile.context_s == pytest.approx(STRAIGHT.context_s, rel=1e-2)
    assert profile.draft_base_s == pytest.approx(STRAIGHT.draft_base_s, rel=1e-2)
    assert profile.step_sigma < 1e-4
    assert profile.residual_sigma == pytest.approx(run_sigma(()))


def test_a_bent_engine_earns_a_knot() -> None:
    steps = measure(LATENCY)
    profile = fit(steps)
    assert len(profile.token_knots) > 1
    assert held_out_error(steps, profile.token_knots) < 0.02
    assert held_out_error(steps, profile.token_knots) < held_out_error(steps)


def test_noise_of_points_is_no_error_of_the_run() -> None:
    steps = measure(STRAIGHT, noise=0.05)
    profile = fit(steps)
    assert profile.step_sigma == pytest.approx(0.05, rel=0.35)
    assert profile.residual_sigma < run_sigma(()) + 0.015
    assert held_out_error(steps) < 0.06


def test_a_form_that_does_not_fit_is_an_error_of_the_run() -> None:
    honest, wrong = fit(measure(LATENCY)), fit(measure(LATENCY), token_knots=(0.0,))
    assert wrong.residual_sigma > honest.residual_sigma + 0.02


def test_runs_that_lie_apart_widen_the_spread_and_equal_ones_narrow_it() -> None:
    profile = fit(measure(STRAIGHT))
    assert with_runs(profile, [0.0, 0.0, 0.0]).residual_sigma < profile.residual_sigma
    apart = with_runs(profile, [-0.2, 0.0, 0.2]).residual_sigma
    assert 0.12 < apart < 0.25


def test_stalls_by_prefills_are_told_apart_from_steps() -> None:
    steps = [
        replace(
            step,
            stall_tokens=stall,
            step_time_s=step.step_time_s + 2e-5 * stall,
        )
        for step in measure(STRAIGHT)
        for stall in (step.rows * 0.5, step.rows * 8.0)
    ]
    profile = fit(steps)
    assert profile.prefill_token_s == pytest.approx(2e-5, rel=1e-3)
    assert profile.base_s == pytest.approx(STRAIGHT.base_s, rel=1e-3)


def test_contexts_can_be_left_out_together() -> None:
    assert held_out_error(measure(STRAIGHT), by=by_context) < 0.02


def test_prefills_are_fitted_apart() -> None:
    prefills = [PrefillMeasurement(n, float(LATENCY.prefill_time_s(n))) for n in (64, 512, 4096)]
    profile = fit(measure(STRAIGHT), prefills=prefills, acceptance=[0.7, 0.6])
    assert profile.prefill_base_s == pytest.approx(LATENCY.prefill_base_s, rel=1e-4)
    assert profile.prefill_token_s == pytest.approx(LATENCY.prefill_token_s, rel=1e-4)
    assert profile.acceptance == (0.7, 0.6)


def test_the_order_of_measurements_does_not_matter() -> None:
    steps = measure(LATENCY, noise=0.03)
    first, second = fit(steps), fit(steps[::-1])
    assert first.residual_sigma == second.residual_sigma
    assert first.base_s == pytest.approx(second.base_s)


def test_knots_can_be_given() -> None:
    assert fit(measure(LATENCY), token_knots=(0.0, 64.0)).token_knots == (0.0, 64.0)


def test_a_fit_needs_measurements_that_are_possible() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        fit(measure(STRAIGHT)[:2])
    with pytest.raises(ValueError, match="positive"):
        fit([*measure(STRAIGHT), StepMeasurement(1, 0, 0.0, 0.0)])
