"""Summaries: percentiles, attainment, accuracy of a vote."""

import pytest

from scheduler.core.metrics import maj_at_n, percentile, slo_attainment


def test_a_percentile_interpolates_between_values() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5


def test_nothing_measured_has_no_percentile_and_no_attainment() -> None:
    assert percentile([], 50) is None
    assert slo_attainment([]) is None
    assert maj_at_n([], 1) is None


def test_attainment_is_the_fraction_of_jobs_in_time() -> None:
    assert slo_attainment([True, False, True, True]) == 0.75


def test_a_vote_can_right_a_first_branch_that_was_wrong() -> None:
    problems: list[tuple[list[int | None], int | None]] = [
        ([1, 0, 0], 0),
        ([0, 1, 1], 0),
        ([None, None, None], 0),
        ([2, 2, 2], None),
    ]
    assert maj_at_n(problems, 1) == 0.25
    assert maj_at_n(problems, 3) == 0.25
    assert maj_at_n(problems[:1], 3) == 1.0


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], 101)
    with pytest.raises(ValueError, match="num_branches"):
        maj_at_n([], 0)
