"""Acceptance: what is counted, what the counts leave open, and its fall along a branch."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.acceptance import mean_length, quantile, relative_sigma
from scheduler.core.fit_acceptance import DraftCounts, fit_decay, measure_acceptance
from tests.scheduler.core.worlds import LATENCY

probabilities = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6)


def sample_branch(
    rng: np.random.Generator, acceptance: list[float], decay: float, tokens: int
) -> list[int]:
    """Tokens of each step of a branch."""
    steps: list[int] = []
    while sum(steps) < tokens:
        kept = np.exp(-decay * sum(steps))
        accepted = 0
        while accepted < len(acceptance) and rng.random() < acceptance[accepted] * kept:
            accepted += 1
        steps.append(accepted + 1)
    return steps


def counts_of(branch: list[int], draft: int) -> DraftCounts:
    accepted = tuple(sum(length > j for length in branch) for j in range(1, draft + 1))
    return DraftCounts((len(branch),) * draft, accepted)


def test_acceptance_is_counted_over_what_was_tried() -> None:
    found = measure_acceptance([DraftCounts((10, 10), (8, 4)), DraftCounts((10,), (6,))])
    assert found.acceptance == pytest.approx((14 / 20, 4 / 8))


def test_nothing_drafted_measures_nothing() -> None:
    assert measure_acceptance([DraftCounts((), ())]).acceptance == ()
    assert measure_acceptance([]).tries == ()


def test_branches_that_differ_are_worth_fewer_tries_than_branches_alike() -> None:
    rng = np.random.default_rng(0)
    alike = [counts_of(sample_branch(rng, [0.6], 0.0, 300), 1) for _ in range(40)]
    rates = rng.beta(3.0, 2.0, 40)
    apart = [counts_of(sample_branch(rng, [rate], 0.0, 300), 1) for rate in rates]
    assert measure_acceptance(apart).tries[0] < 0.2 * measure_acceptance(alike).tries[0]


def test_the_bounds_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        # Branches of one task differ: the truth is the mean over tasks like these.
        rates = rng.beta(12.0, 8.0, 30)
        groups = [DraftCounts((60,), (int(rng.binomial(60, rate)),)) for rate in rates]
        found = measure_acceptance(groups)
        low, high = (quantile(found.acceptance, found.tries, q)[0] for q in (0.05, 0.95))
        covered += low <= 0.6 <= high
    assert 0.86 <= covered / 400 <= 0.96


def test_few_drafts_leave_more_open_than_many() -> None:
    few, many = (relative_sigma([0.7, 0.5], [n, n / 2], 2) for n in (10, 1000))
    assert few > 5 * many > 0
    assert relative_sigma([0.7], [10], 0) == 0


def test_the_error_of_the_length_is_that_of_positions_that_move_together() -> None:
    rng = np.random.default_rng(2)
    level = rng.standard_normal(20_000)[:, None]
    means, sigmas = np.array([0.7, 80 / 140]), np.sqrt([0.21 / 201, 12 / 49 / 141])
    drawn = means + sigmas * level
    lengths = 1 + drawn[:, 0] + drawn[:, 0] * drawn[:, 1]
    expected = lengths.std() / lengths.mean()
    assert float(relative_sigma([0.7, 80 / 140], [200, 140], 2)) == pytest.approx(
        expected, rel=0.05
    )


def test_a_profile_is_less_sure_of_long_drafts() -> None:
    counted = replace(LATENCY, acceptance_tries=(50.0, 40.0, 30.0, 20.0))
    sigmas = counted.run_sigma([0, 1, 2, 4])
    assert sigmas[0] == LATENCY.residual_sigma
    assert np.all(np.diff(sigmas) > 0)


def test_decay_costs_a_long_branch_more_than_a_short_one() -> None:
    decaying = replace(LATENCY, acceptance_decay_per_token=1e-3)
    lengths = decaying.mean_acceptance_length(3, [0.0, 100.0, 1000.0, 100_000.0])
    assert lengths[0] == pytest.approx(float(LATENCY.mean_acceptance_length(3)))
    assert np.all(np.diff(lengths) < 0)
    assert lengths[3] == pytest.approx(1.0, abs=0.05)


def test_the_mean_over_a_branch_is_tokens_over_steps() -> None:
    rng = np.random.default_rng(3)
    branches = [sample_branch(rng, [0.8, 0.7, 0.6], 8e-4, 1500) for _ in range(60)]
    measured = sum(map(sum, branches)) / sum(map(len, branches))
    assert float(mean_length([0.8, 0.7, 0.6], 3, 1500, 8e-4)) == pytest.approx(measured, rel=0.02)


def test_a_decay_is_found_where_there_is_one_and_not_where_there_is_none() -> None:
    rng = np.random.default_rng(4)
    for decay in (0.0, 6e-4):
        branches = [sample_branch(rng, [0.8, 0.7], decay, 1200) for _ in range(30)]
        rates = measure_acceptance([counts_of(branch, 2) for branch in branches]).acceptance
        assert fit_decay(branches, rates, 2) == pytest.approx(decay, abs=1e-4)


def test_a_decay_that_is_a_rise_is_none() -> None:
    rng = np.random.default_rng(5)
    branches = [sample_branch(rng, [0.5, 0.5], -4e-4, 1000) for _ in range(20)]
    assert fit_decay(branches, (0.55, 0.55), 2) == pytest.approx(0.0, abs=1e-5)


@given(probabilities, st.floats(0.0, 0.01), st.floats(0.0, 20_000.0))
def test_a_step_yields_at_least_one_token_and_more_with_a_longer_draft(
    acceptance: list[float], decay: float, tokens: float
) -> None:
    lengths = mean_length(acceptance, np.arange(len(acceptance) + 1), tokens, decay)
    assert np.all(lengths >= 1 - 1e-9)
    assert np.all(lengths <= np.arange(len(acceptance) + 1) + 1 + 1e-9)
    assert np.all(np.diff(lengths) >= -1e-9)
