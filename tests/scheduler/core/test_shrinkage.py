"""Priors: pooled from what other models and families taught, weighted by how much was seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.accuracy import DIFFICULTY_GRID, AnswerProfile
from scheduler.core.fit_answers import PRIOR_PROBLEMS, RecordedProblem, fit_answers
from scheduler.core.shrinkage import (
    ANY_FAMILY,
    FAMILY_PROBLEMS,
    GIVEN_PROBLEMS,
    best_known,
    expected_answers,
    group_weight,
    pooled,
    prior_of,
)
from tests.scheduler.core.worlds import ANSWERS

COLD = AnswerProfile.uninformed("m", "f")


def learned(model: str, family: str, *, right: bool, num_problems: int = 200) -> AnswerProfile:
    """A profile of a model that is nearly always right, or nearly always wrong."""
    row = len(DIFFICULTY_GRID) - 1 if right else 0
    weights = np.full((len(DIFFICULTY_GRID), len(COLD.concentrations)), 1e-6)
    weights[row] += 1.0
    weights /= weights.sum()
    return replace(
        COLD,
        model=model,
        family=family,
        num_problems_seen=num_problems,
        weights=tuple(tuple(r) for r in weights.tolist()),
    )


def test_without_anything_learned_the_prior_is_the_cold_start_and_says_so() -> None:
    prior = prior_of("m", "f", [])
    assert prior.profile == COLD
    assert prior.profile.num_problems_seen == 0
    assert "cold start" in prior.profile.source
    assert prior.problems == PRIOR_PROBLEMS


def test_a_new_model_begins_where_the_others_are() -> None:
    others = [learned("a", "x", right=True), learned("b", "y", right=True)]
    prior = prior_of("m", "f", others).profile
    assert prior.accuracy_of(1, 1e9) > COLD.accuracy_of(1, 1e9) + 0.2
    assert (prior.model, prior.family) == ("m", "f")
    assert prior.num_problems_seen == 0
    assert "a on x" in prior.source
    assert "no branch of this model on this family was seen" in prior.source


def test_the_same_family_tells_more_than_other_families() -> None:
    groups = [learned("a", "f", right=True)]
    groups += [learned("b", family, right=False) for family in "xyz"]
    prior = prior_of("m", "f", groups)
    assert prior.profile.accuracy_of(1, 1e9) > 0.6
    assert prior.problems == FAMILY_PROBLEMS > PRIOR_PROBLEMS


def test_jobs_without_a_family_have_nothing_in_common_with_those_of_other_models() -> None:
    groups = [learned("a", ANY_FAMILY, right=True), learned("b", "x", right=False)]
    assert prior_of("m", ANY_FAMILY, groups).problems == PRIOR_PROBLEMS


def test_what_was_learned_of_this_very_family_is_not_its_own_prior() -> None:
    assert prior_of("m", "f", [learned("m", "f", right=True)]).profile == COLD


def test_a_profile_that_an_operator_gave_is_the_prior() -> None:
    given_profile = replace(ANSWERS, num_problems_seen=400)
    prior = prior_of("m", "f", [learned("a", "f", right=False)], given_profile)
    assert prior.profile is given_profile
    assert prior.problems == GIVEN_PROBLEMS
    assert prior_of("m", "f", [], COLD).profile == COLD


def test_the_order_of_profiles_does_not_matter() -> None:
    groups = [learned("a", "f", right=True), learned("b", "f", right=False), ANSWERS]
    assert prior_of("m", "f", groups) == prior_of("m", "f", groups[::-1])


def test_profiles_on_other_grids_are_left_out() -> None:
    other = replace(ANSWERS, length_quantiles=(1.0, 2.0, 3.0))
    assert pooled([other], COLD) is COLD


@given(st.integers(0, 10_000), st.integers(1, 1000))
def test_a_group_weighs_more_the_more_of_it_was_seen(few: int, more: int) -> None:
    assert 0.0 <= group_weight(few) < group_weight(few + more) < 1.0


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_prior_moves_toward_a_group_as_it_grows(few: int, more: int) -> None:
    small = prior_of("m", "f", [learned("a", "x", right=True, num_problems=few)])
    large = prior_of("m", "f", [learned("a", "x", right=True, num_problems=few + more)])
    assert small.profile.accuracy_of(1, 1e9) < large.profile.accuracy_of(1, 1e9)


def test_the_prior_fades_as_problems_of_the_family_are_seen() -> None:
    """The model is always wrong, and all others were always right."""
    prior = prior_of("m", "f", [learned("a", "f", right=True)])
    wrong = RecordedProblem((1,) * 8, (900,) * 8)
    accuracy = [
        fit_answers(
            [wrong] * count,
            model="m",
            family="f",
            source="synthetic",
            prior=prior.profile,
            prior_problems=prior.problems,
        ).accuracy_of(8, 1e9)
        for count in (1, 5, 25, 125)
    ]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > 0.5
    assert accuracy[-1] < 0.05


@pytest.mark.parametrize("num_problems", [1, 10])
def test_lengths_of_another_level_are_believed_at_once(num_problems: int) -> None:
    """Models differ in level by more than problems do: the prior's level hardly counts."""
    prior = prior_of("m", "f", [replace(ANSWERS, model="a", family="f")])
    rng = np.random.default_rng(4)
    problems = [
        RecordedProblem((0,) * 8, tuple(rng.lognormal(9.0, 0.3, 8).astype(int).tolist()))
        for _ in range(num_problems)
    ]
    profile = fit_answers(
        problems, model="m", family="f", source="s", prior=prior.profile, prior_problems=4.0
    )
    median = float(profile.length_quantile(0.5))
    assert median == pytest.approx(np.exp(9.0), rel=0.6 if num_problems == 1 else 0.2)


def test_the_family_itself_is_expected_before_its_kin() -> None:
    mine, other = learned("m", "f", right=True), learned("a", "f", right=False)
    assert expected_answers("m", "f", (other, mine)) is mine
    kin = expected_answers("m", "g", (other, mine))
    assert kin is not None
    assert kin.num_problems_seen == 0
    assert expected_answers("m", "f", ()) is None


def test_a_guess_from_others_does_not_outdo_a_given_profile() -> None:
    guess = prior_of("m", "f", [learned("a", "f", right=True)]).profile
    given_profile = replace(ANSWERS, num_problems_seen=10)
    mine = learned("m", "f", right=True, num_problems=1)
    assert best_known(COLD, None) is COLD
    assert best_known(COLD, guess) is guess
    assert best_known(given_profile, guess) is given_profile
    assert best_known(given_profile, mine) is mine
