"""The correlation of early votes is found in recordings that were made with it."""

import numpy as np
import pytest

from scheduler.core.finish_order import fit_early_correlation, fit_right_first
from scheduler.core.fit_answers import fit_answers
from scheduler.core.recorded import RecordedProblem
from tests.scheduler.core.drawn import draw_votes
from tests.scheduler.core.test_posterior import INDEPENDENT


def recorded(num_problems: int, *, repeats: bool) -> list[RecordedProblem]:
    """Problems whose votes come in the order of their lengths; the first half may be one vote."""
    rng = np.random.default_rng(3)
    problems = []
    for _ in range(num_problems):
        votes = draw_votes(INDEPENDENT, 16, rng)
        if repeats:
            votes[:8] = [votes[0]] * 8
        problems.append(RecordedProblem(tuple(votes), tuple(range(100, 116))))
    return problems


def test_independent_votes_have_a_lower_correlation_than_repeated_ones() -> None:
    independent = fit_early_correlation(INDEPENDENT, recorded(300, repeats=False))
    repeated = fit_early_correlation(INDEPENDENT, recorded(300, repeats=True))
    assert independent < 0.4
    assert repeated > 0.8


def test_nothing_to_learn_from_leaves_the_middle() -> None:
    assert fit_early_correlation(INDEPENDENT, []) == pytest.approx(0.5)
    one = RecordedProblem((0,), (5,))
    assert fit_early_correlation(INDEPENDENT, [one]) == pytest.approx(0.5)
    unlabeled = RecordedProblem((0, 0, 1, 1), (5, 6, 7, 8), is_labeled=False)
    assert fit_early_correlation(INDEPENDENT, [unlabeled]) == pytest.approx(0.5)


def test_a_cut_branch_does_not_end_before_those_that_finished() -> None:
    cut_first = RecordedProblem((1, 0, 0, 0), (5, 6, 7, 8), finished=(False, True, True, True))
    moved = RecordedProblem((0, 0, 0, 1), (6, 7, 8, 9), finished=(True, True, True, False))
    assert fit_early_correlation(INDEPENDENT, [cut_first]) == fit_early_correlation(
        INDEPENDENT, [moved]
    )


def test_how_often_right_branches_end_first_is_learned_and_shrunk() -> None:
    first = RecordedProblem((0, 0, 1, None), (5, 6, 7, 1))
    last = RecordedProblem((1, 0, 0), (5, 6, 7))
    assert fit_right_first([], prior=0.6) == 0.6
    assert fit_right_first([first] * 500, prior=0.5) == 0.95
    assert fit_right_first([last] * 500, prior=0.5) == 0.05
    assert fit_right_first([first, last] * 250, prior=0.9) == 0.5
    assert 0.5 < fit_right_first([first] * 12, prior=0.5) < 0.9
    # Nothing to compare, or not known which is right.
    others = [
        RecordedProblem((0, 0), (5, 6)),
        RecordedProblem((0, 1), (5, 6), is_labeled=False),
        RecordedProblem((0, 1), (5, 6), finished=(True, False)),
    ]
    assert fit_right_first(others * 500, prior=0.6) == 0.6


def test_a_profile_of_branches_whose_right_ones_end_first_gains_more_by_a_second() -> None:
    def gain(*, right_is_short: bool) -> float:
        tokens = (100, 110, 190, 200) if right_is_short else (200, 190, 110, 100)
        problems = [RecordedProblem((0, 0, 1, 2), tokens)] * 100
        fitted = fit_answers(problems, model="m", family="f", source="made")
        return fitted.accuracy_of(2, 1e9) - fitted.accuracy_of(1, 1e9)

    assert gain(right_is_short=True) > 0.1
    assert gain(right_is_short=False) < -0.1
