"""The posterior of an answer's being right: closed forms, limits and calibration."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.posterior import leader_of, posterior, types_of
from tests.scheduler.core.drawn import draw_votes
from tests.scheduler.core.worlds import answers

ANSWERS = answers()
INDEPENDENT = replace(ANSWERS, early_correlation=0.0)
ONE_TYPE = replace(
    INDEPENDENT,
    difficulty=(0.6,),
    length_scales=ANSWERS.length_scales[:1],
    length_spreads=ANSWERS.length_spreads[:1],
    upper_spreads=ANSWERS.upper_spreads[:1],
    answer_rates=(1.0,),
    concentrations=(2.0,),
    weights=((1.0,),),
)

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


def probability_right(profile: AnswerProfile, counts: tuple[int, ...], num_more: int = 0) -> float:
    """That the leading class is right."""
    return float(posterior(types_of(profile), counts, num_more)[leader_of(counts)].sum())


def test_of_one_type_the_posterior_is_the_product_of_its_formulas() -> None:
    # Classes of 3, 2 and 1 votes; theta is 2, p is 0.6. EPPF(n..) by hand.
    eppf_without_first = 2.0**2 * 1 * 1 / (2 * 3 * 4)
    eppf_without_second = 2.0**2 * 2 * 1 / (2 * 3 * 4 * 5)
    eppf_without_third = 2.0**2 * 2 * 1 / (2 * 3 * 4 * 5 * 6)
    eppf_of_all = 2.0**3 * 2 * 1 * 1 / (2 * 3 * 4 * 5 * 6 * 7)
    likelihoods = np.array(
        [
            0.6**3 * 0.4**3 * eppf_without_first,
            0.6**2 * 0.4**4 * eppf_without_second,
            0.6 * 0.4**5 * eppf_without_third,
            0.4**6 * eppf_of_all,
        ]
    )
    found = posterior(types_of(ONE_TYPE), (3, 2, 1), 0).sum(axis=(1, 2))
    assert found == pytest.approx(likelihoods / likelihoods.sum(), rel=1e-9)


def test_without_votes_the_types_are_those_of_the_profile() -> None:
    assert posterior(types_of(ANSWERS), (), 8)[0] == pytest.approx(np.asarray(ANSWERS.weights))


@given(counts=COUNTS, num_more=st.integers(0, 40))
def test_hypotheses_are_a_distribution(counts: tuple[int, ...], num_more: int) -> None:
    joint = posterior(types_of(ANSWERS), counts, num_more)
    assert joint.shape[0] == len(counts) + 1
    assert joint.min() >= 0
    assert joint.sum() == pytest.approx(1.0)


@given(counts=COUNTS, num_more=st.integers(0, 20))
def test_the_order_of_classes_changes_nothing(counts: tuple[int, ...], num_more: int) -> None:
    turned = tuple(reversed(counts))
    before = probability_right(ANSWERS, counts, num_more)
    assert probability_right(ANSWERS, turned, num_more) == pytest.approx(before)


@given(counts=COUNTS, num_more=st.integers(1, 30))
def test_early_votes_that_repeat_each_other_tell_less(
    counts: tuple[int, ...], num_more: int
) -> None:
    agreed = (sum(counts),)
    early = probability_right(replace(ANSWERS, early_correlation=1.0), agreed, num_more)
    assert early <= probability_right(INDEPENDENT, agreed, num_more) + 1e-9
    assert probability_right(ANSWERS, (1,), num_more) == pytest.approx(
        probability_right(INDEPENDENT, (1,), num_more)
    )


@pytest.mark.parametrize("counts", [(64,), (1,) * 64, (30, 30, 4)])
def test_many_votes_stay_finite(counts: tuple[int, ...]) -> None:
    assert 0.0 <= probability_right(ANSWERS, counts) <= 1.0


@pytest.mark.parametrize("num_votes", [2, 6, 12])
def test_the_stated_probability_is_the_frequency(num_votes: int) -> None:
    rng = np.random.default_rng(num_votes)
    stated, right = [], []
    for _ in range(4000):
        votes = draw_votes(INDEPENDENT, num_votes, rng)
        counts = {vote: votes.count(vote) for vote in dict.fromkeys(votes)}
        stated.append(probability_right(INDEPENDENT, tuple(counts.values())))
        right.append(max(counts, key=counts.__getitem__) == 0)
    bins = np.digitize(stated, [0.25, 0.5, 0.75, 0.9])
    for index in np.unique(bins):
        inside = bins == index
        frequency = np.asarray(right)[inside].mean()
        error = (0.25 / inside.sum()) ** 0.5
        assert np.asarray(stated)[inside].mean() == pytest.approx(frequency, abs=3 * error)
