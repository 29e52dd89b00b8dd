"""Closed-form odds of a vote against drawing it."""

import numpy as np
import pytest

from scheduler.core.stopping import is_decided, plurality
from scheduler.core.votes import MAX_BRANCHES, binomial, decided, lead_table, right_table

DIFFICULTY = (0.0, 0.3, 0.6, 0.9, 1.0)
CONCENTRATIONS = (0.3, 3.0)
RIGHT = right_table(DIFFICULTY, CONCENTRATIONS)
LEAD = lead_table(DIFFICULTY, CONCENTRATIONS)
DRAWS = 3000


def draw_votes(p: float, theta: float, width: int, rng: np.random.Generator) -> list[int]:
    votes: list[int] = []
    wrong: list[int] = []
    for _ in range(width):
        if rng.random() < p:
            votes.append(0)
            continue
        is_new = rng.random() < theta / (theta + len(wrong))
        wrong.append(len(set(wrong)) + 1 if is_new else int(rng.choice(wrong)))
        votes.append(wrong[-1])
    return votes


def branches_used(votes: list[int]) -> int:
    counts: dict[int, int] = {}
    for index, vote in enumerate(votes, start=1):
        counts[vote] = counts.get(vote, 0) + 1
        if is_decided(list(counts.values()), len(votes) - index):
            return index
    return len(votes)


@pytest.mark.parametrize("width", [1, 2, 5, 16])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("row", [1, 2, 3])
def test_the_table_agrees_with_drawn_votes(row: int, column: int, width: int) -> None:
    rng = np.random.default_rng(11)
    drawn = [draw_votes(DIFFICULTY[row], CONCENTRATIONS[column], width, rng) for _ in range(DRAWS)]
    winners = [vote for votes in drawn if (vote := plurality(votes))]
    right = float(np.mean([vote.vote_class == 0 for vote in winners]))
    assert RIGHT[row, column, width] == pytest.approx(right, abs=0.035)
    expected = float((1.0 - decided(LEAD[row, column], width)[:-1]).sum())
    used = float(np.mean([branches_used(votes) for votes in drawn]))
    assert expected == pytest.approx(used, rel=0.03)


def test_one_branch_is_right_as_often_as_its_difficulty_says() -> None:
    np.testing.assert_allclose(RIGHT[:, :, 1], np.array(DIFFICULTY)[:, None] * [1.0, 1.0])


def test_no_vote_is_never_right_and_certainty_stays_certain() -> None:
    assert not RIGHT[:, :, 0].any()
    np.testing.assert_allclose(RIGHT[-1, :, 1:], 1.0)
    assert not RIGHT[0].any()


def test_width_entrenches_one_popular_wrong_answer() -> None:
    # Right on 30% of branches, and nearly all wrong answers alike.
    right = right_table((0.3,), (0.1,))[0, 0]
    assert right[64] < right[16] < right[4] < right[1]


def test_width_helps_when_wrong_answers_scatter() -> None:
    right = right_table((0.3,), (50.0,))[0, 0]
    assert right[1] < right[4] < right[16] < right[64]


def test_all_odds_are_probabilities() -> None:
    for odds in (RIGHT, LEAD):
        assert odds.min() >= 0.0
        assert odds.max() <= 1.0 + 1e-12


def test_a_vote_is_decided_at_the_latest_when_all_branches_ended() -> None:
    odds = decided(LEAD, MAX_BRANCHES)
    assert odds[..., 0].max() == 0.0
    assert odds[..., -1].min() == 1.0
    assert (np.diff(odds, axis=-1) >= 0.0).all()


def test_binomial_odds_add_up_to_one() -> None:
    odds = binomial([0, 1, 7, 64], np.array([0.0, 0.2, 1.0]))
    np.testing.assert_allclose(odds.sum(axis=-1), 1.0)


def test_a_right_answer_that_tends_to_come_first_wins_more_ties() -> None:
    p = 0.4
    even, ahead = (right_table((p,), (10.0,), first)[0, 0] for first in (0.5, 0.7))
    # Of two branches that disagree the first counts; one vote, and odd ones of two classes, do not.
    assert ahead[1] == even[1] == pytest.approx(p)
    assert even[2] == pytest.approx(p)
    assert ahead[2] == pytest.approx(p * p + 2 * p * (1 - p) * 0.7)
    assert (ahead[2:] >= even[2:]).all()
    assert ahead[3] - even[3] < ahead[2] - even[2]
