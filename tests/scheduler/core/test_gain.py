"""The gain of more branches: against sampling, at its limits, and what stopping by it costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.gain import expected_gain
from scheduler.core.plan import Plan
from scheduler.core.posterior import leader_of, posterior, types_of
from scheduler.core.stopping import is_decided, should_stop
from tests.scheduler.core.drawn import draw_votes
from tests.scheduler.core.test_posterior import ANSWERS, INDEPENDENT, ONE_TYPE

COUNTS = st.lists(st.integers(1, 6), max_size=4).map(tuple)


def sampled_gain(
    profile: AnswerProfile, counts: tuple[int, ...], num_votes: int, samples: int
) -> float:
    """Rise of the share of right winners over problems continued at random."""
    rng = np.random.default_rng(sum(counts))
    joint = posterior(types_of(profile), counts, num_votes)
    drawn = rng.choice(joint.size, size=samples, p=joint.ravel() / joint.sum())
    change = 0
    for hypothesis, row, column in zip(*np.unravel_index(drawn, joint.shape), strict=True):
        now = list(counts)
        right = int(hypothesis) if hypothesis < len(counts) else None
        change -= bool(counts) and leader_of(counts) == right
        for _ in range(num_votes):
            if rng.random() < profile.difficulty[row]:
                if right is None:
                    right = len(now)
                    now.append(0)
                now[right] += 1
                continue
            wrong = np.array([0 if i == right else c for i, c in enumerate(now)])
            place = rng.random() * (wrong.sum() + profile.concentrations[column])
            index = int(np.searchsorted(wrong.cumsum(), place, side="right"))
            if index == len(now):
                now.append(0)
            now[index] += 1
        change += leader_of(now) == right
    return change / samples


@pytest.mark.parametrize(
    ("counts", "num_votes"), [((1,), 3), ((2,), 4), ((2, 1), 5), ((4, 4), 6), ((1, 1), 1)]
)
def test_the_gain_is_that_of_problems_continued_at_random(
    counts: tuple[int, ...], num_votes: int
) -> None:
    # One type that always answers, so that every branch to come votes.
    gain = expected_gain(ONE_TYPE, counts, 0, num_votes)
    assert gain == pytest.approx(sampled_gain(ONE_TYPE, counts, num_votes, 8000), abs=0.02)


@given(counts=COUNTS, num_unanswered=st.integers(0, 3), num_more=st.integers(0, 24))
@settings(max_examples=60, deadline=None)
def test_the_gain_is_bounded_and_none_once_the_vote_is_decided(
    counts: tuple[int, ...], num_unanswered: int, num_more: int
) -> None:
    gain = expected_gain(ANSWERS, counts, num_unanswered, num_more)
    assert -1.0 <= gain <= 1.0
    if counts and is_decided(counts, num_more):
        assert gain == pytest.approx(0.0, abs=1e-6 * (len(counts) + 1))


def test_branches_that_gave_no_answer_lower_the_gain_of_more() -> None:
    assert expected_gain(ANSWERS, (1, 1), 6, 4) < expected_gain(ANSWERS, (1, 1), 0, 4)


def test_an_agreed_vote_is_worth_less_the_longer_it_agrees() -> None:
    gains = [expected_gain(ANSWERS, (votes,), 0, 16) for votes in (1, 2, 4, 8, 12)]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize("width", [8, 16])
def test_stopping_at_a_gain_loses_about_that_much_and_saves_branches(width: int) -> None:
    rng = np.random.default_rng(width)
    plan = Plan(width, 0, 1000, 4, stop_gain=0.01)
    decided = Plan(width, 0, 1000, 4)
    problems = 2000
    right_early, right_late, used, used_decided = 0, 0, 0, 0
    for _ in range(problems):
        votes = draw_votes(INDEPENDENT, width, rng)
        ended = {}
        for name, rule in (("early", plan), ("late", decided)):
            counts: dict[int, int] = {}
            for number, vote in enumerate(votes, start=1):
                counts[vote] = counts.get(vote, 0) + 1
                classes = tuple(counts.values())
                more = width - number
                if should_stop(rule, INDEPENDENT, classes, num_unanswered=0, num_more=more):
                    ended[name] = (max(counts, key=counts.__getitem__) == 0, number)
                    break
        right_early += ended["early"][0]
        used += ended["early"][1]
        right_late += ended["late"][0]
        used_decided += ended["late"][1]
    # Two standard errors of the paired difference are about 0.006.
    assert (right_late - right_early) / problems < 0.01 + 0.006
    assert used < 0.9 * used_decided
