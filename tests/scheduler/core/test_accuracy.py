"""The answer profile: lengths, accuracy of a vote under a cap, and its JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.curves import SHARE_GRID, interpolate_share, interpolate_type
from tests.scheduler.core.test_votes import draw_votes
from tests.scheduler.core.worlds import ANSWERS, draw_lengths, mean_length


def test_json_restores_the_profile() -> None:
    text = json.dumps(ANSWERS.to_dict())
    assert AnswerProfile.from_dict(json.loads(text)) == ANSWERS


def test_a_stored_profile_without_upper_spreads_has_one_spread() -> None:
    stored = {k: v for k, v in ANSWERS.to_dict().items() if k != "upper_spreads"}
    assert AnswerProfile.from_dict(stored) == ANSWERS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length_quantiles": [5.0, 1.0]}, "length_quantiles"),
        ({"length_quantiles": [-1.0, 1.0]}, "length_quantiles"),
        ({"length_scales": []}, "length_scales must have a row per difficulty"),
        ({"length_scales": [[0.0] * 16] * 25}, "positive"),
        ({"length_spreads": [[1.0] * 15] * 25}, "length_spreads must have a row per difficulty"),
        ({"upper_spreads": [[-1.0] * 16] * 25}, "positive"),
        ({"wrong_length_ratio": 0.0}, "wrong_length_ratio"),
        ({"answer_rates": [1.0]}, "equally long"),
        ({"answer_rates": [1.5] * 25}, "probabilities"),
        ({"concentrations": [0.0]}, "concentrations"),
        ({"weights": [[0.0] * 6] * 25}, "add up to 1"),
        ({"weights": [[1.0]]}, "row per difficulty"),
        ({"weights": 3}, "not an answer profile"),
        ({"luck": 1}, "luck"),
    ],
)
def test_a_malformed_profile_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerProfile.from_dict({**ANSWERS.to_dict(), **change})


def test_the_cold_start_says_that_it_saw_nothing() -> None:
    profile = AnswerProfile.uninformed("m")
    assert profile.num_problems_seen == profile.num_branches_seen == 0
    assert "cold start" in profile.source


def test_quantiles_of_length_invert_the_finished_share() -> None:
    shares = np.array([0.1, 0.5, 0.9])
    tokens = ANSWERS.length_quantile(shares)
    np.testing.assert_allclose(ANSWERS.finished_share(tokens), shares, atol=0.01)


def test_a_cap_shortens_the_mean_length() -> None:
    assert mean_length(ANSWERS, 200.0) < mean_length(ANSWERS, 2000.0) < 1000.0


def test_one_uncapped_branch_is_right_at_the_mean_difficulty() -> None:
    weights = np.asarray(ANSWERS.weights).sum(axis=1)
    mean = float(weights @ (np.asarray(ANSWERS.difficulty) * ANSWERS.answer_rates))
    assert ANSWERS.accuracy_of(1, 1e9) == pytest.approx(mean)


def test_no_branch_finishes_within_no_tokens() -> None:
    assert ANSWERS.accuracy_of(16, 0.0) == 0.0


def test_width_does_not_help_problems_with_a_popular_wrong_answer() -> None:
    size = len(ANSWERS.concentrations)
    row = tuple(1.0 if column == 0 else 0.0 for column in range(size))
    none = (0.0,) * size
    hard = min(range(25), key=lambda i: abs(ANSWERS.difficulty[i] - 0.3))
    weights = tuple(row if i == hard else none for i in range(25))
    profile = replace(ANSWERS, weights=weights)
    assert profile.accuracy_of(16, 1e9) < profile.accuracy_of(1, 1e9)


def test_stopping_early_uses_fewer_branches_than_asked() -> None:
    shares = np.asarray(ANSWERS.weights).sum(axis=1)
    for width in (4, 16, 64):
        used = float(shares @ (1.0 - ANSWERS.decided_after(width)[:, :-1]).sum(axis=1))
        assert width / 2 <= used < width


def test_a_width_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="num_branches"):
        ANSWERS.accuracy_of(0, 100.0)
    with pytest.raises(ValueError, match="num_branches"):
        ANSWERS.accuracy_of(65, 100.0)


@given(width=st.integers(1, 64), cap=st.floats(1.0, 5000.0), more=st.floats(1.0, 3.0))
def test_more_tokens_never_lower_the_share_that_finishes(
    width: int, cap: float, more: float
) -> None:
    low, high = ANSWERS.finished_share([cap, cap * more])
    assert low <= high + 1e-12
    assert 0.0 <= ANSWERS.accuracy_of(width, cap) <= 1.0


def test_curves_are_read_exactly_at_their_grid() -> None:
    curve = np.stack([SHARE_GRID**2])[None]
    shares = SHARE_GRID[None, None]
    np.testing.assert_allclose(interpolate_share(curve, shares)[0, 0, 0], SHARE_GRID**2)


def test_curves_are_read_exactly_between_difficulties() -> None:
    curves = np.stack([0.0 * SHARE_GRID, SHARE_GRID])[None]
    effective, share = np.full((1, 1, 1), 0.25), np.full((1, 1, 1), SHARE_GRID[20])
    read = interpolate_type(curves, (0.0, 1.0), effective, share)
    assert read.item() == pytest.approx(0.25 * SHARE_GRID[20])


@pytest.mark.parametrize("width", [1, 8])
def test_a_tight_cap_hurts_less_when_wrong_answers_run_longer(width: int) -> None:
    slow_wrong = replace(ANSWERS, wrong_length_ratio=1.4)
    tight = float(ANSWERS.length_quantile(0.2))
    assert slow_wrong.accuracy_of(width, tight) > ANSWERS.accuracy_of(width, tight) + 0.005
    assert slow_wrong.accuracy_of(width, 1e9) == pytest.approx(ANSWERS.accuracy_of(width, 1e9))


def test_accuracy_under_a_cap_is_that_of_branches_drawn() -> None:
    profile = replace(
        ANSWERS,
        wrong_length_ratio=1.4,
        length_spreads=((0.7, 1.3) * 8,) * 25,
        upper_spreads=((1.2, 0.6, 1.0, 1.4) * 4,) * 25,
    )
    rng = np.random.default_rng(3)
    weights = np.asarray(profile.weights)
    caps = profile.length_quantile([0.3, 0.7])
    right = np.zeros(2)
    problems = 4000
    for _ in range(problems):
        row, column = divmod(int(rng.choice(weights.size, p=weights.ravel())), weights.shape[1])
        votes = draw_votes(profile.difficulty[row], profile.concentrations[column], 8, rng)
        lengths = draw_lengths(profile, row, np.array([v == 0 for v in votes]), rng)
        answered = rng.random(8) < profile.answer_rates[row]
        for column, cap in enumerate(caps):
            counts: dict[int, int] = {}
            for branch in np.argsort(lengths):
                if lengths[branch] <= cap and answered[branch]:
                    counts[votes[branch]] = counts.get(votes[branch], 0) + 1
            right[column] += bool(counts) and max(counts, key=counts.__getitem__) == 0
    expected = profile.accuracy_grid((8,), caps)[0]
    # Four standard errors of 4,000 draws are 0.03.
    np.testing.assert_allclose(right / problems, expected, atol=0.03)
