"""Fitting answers: a known mixture is recovered, and little data leaves the prior in force."""

import numpy as np
import pytest

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit import RecordedProblem, fit_answers
from tests.scheduler.core.test_votes import draw_votes
from tests.scheduler.core.worlds import ANSWERS, draw_lengths


def record(profile: AnswerProfile, num_problems: int, width: int) -> list[RecordedProblem]:
    rng = np.random.default_rng(5)
    weights = np.asarray(profile.weights)
    recordings = []
    for _ in range(num_problems):
        row, column = divmod(int(rng.choice(weights.size, p=weights.ravel())), weights.shape[1])
        votes = draw_votes(profile.difficulty[row], profile.concentrations[column], width, rng)
        lengths = draw_lengths(profile, row, np.array([v == 0 for v in votes]), rng)
        classes = [v if rng.random() < profile.answer_rates[row] else None for v in votes]
        recordings.append(RecordedProblem(tuple(classes), tuple(max(1, round(t)) for t in lengths)))
    return recordings


def fit(recordings: list[RecordedProblem]) -> AnswerProfile:
    return fit_answers(recordings, model="m", family="f", source="synthetic")


def test_a_known_model_is_recovered() -> None:
    profile = fit(record(ANSWERS, 400, 32))
    for width in (1, 4, 16):
        for cap in (400.0, 800.0, 1e9):
            expected = ANSWERS.accuracy_of(width, cap)
            # 400 problems leave a standard error of 0.024.
            assert profile.accuracy_of(width, cap) == pytest.approx(expected, abs=0.06)
    assert profile.mean_length(1e5) == pytest.approx(ANSWERS.mean_length(1e5), rel=0.08)
    assert profile.num_problems_seen == 400
    assert profile.num_branches_seen == 400 * 32


def test_one_problem_barely_moves_the_prior() -> None:
    prior = AnswerProfile.uninformed("m")
    lucky = RecordedProblem(classes=(0,) * 8, tokens=(900,) * 8)
    profile = fit([lucky])
    assert prior.accuracy_of(1, 1e9) < profile.accuracy_of(1, 1e9) < 0.75
    assert profile.num_problems_seen == 1


def test_lengths_follow_the_recordings_when_there_are_many() -> None:
    problems = [RecordedProblem((0, 0, 1, 1), (90, 100, 110, 120)) for _ in range(200)]
    profile = fit(problems)
    assert float(profile.length_quantile(0.5)) == pytest.approx(105.0, rel=0.1)


def test_hard_problems_get_longer_scales_when_they_ran_longer() -> None:
    hard = [RecordedProblem((1, 2, 3, 0), (2000, 2100, 1900, 2000)) for _ in range(60)]
    easy = [RecordedProblem((0, 0, 0, 0), (200, 210, 190, 200)) for _ in range(60)]
    profile = fit(hard + easy)
    hardest, easiest = (np.mean(profile.length_scales[row]) for row in (2, -1))
    assert hardest > 3 * easiest


def test_branches_without_an_answer_lower_the_answer_rate() -> None:
    profile = fit([RecordedProblem((0, None, 0, None), (10, 20, 30, 40)) for _ in range(100)])
    assert profile.answer_rates[-1] == pytest.approx(0.5, abs=0.05)


def test_recordings_must_be_complete() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit([])
    with pytest.raises(ValueError, match="as many classes"):
        RecordedProblem((0, 1), (5,))
    with pytest.raises(ValueError, match="failed requests"):
        RecordedProblem((0,), (0,))
