"""Rates of arrivals, and over which time they count."""

import pytest

from scheduler.core.snapshot import ARRIVAL_WINDOW_S, LEAST_WINDOW_S, NO_ARRIVALS, Arrivals


@pytest.mark.parametrize(
    ("first_s", "given_s", "over_s"),
    [
        (0.0, 1.0, LEAST_WINDOW_S[0]),
        (0.0, 30.0, 30.0),
        (0.0, 3_600.0, LEAST_WINDOW_S[1]),
        (40.0, 30.0, 40.0),
        (40.0, 3_600.0, LEAST_WINDOW_S[1]),
        (1_000.0, 3_600.0, ARRIVAL_WINDOW_S),
    ],
)
def test_rates_count_since_the_first_but_over_the_time_given_at_least(
    first_s: float, given_s: float, over_s: float
) -> None:
    arrivals = Arrivals.since(first_s, [(given_s, 12), (given_s, 8)])
    assert arrivals.problems_per_s == pytest.approx(20 / over_s)


def test_the_time_given_is_the_mean_over_problems() -> None:
    assert Arrivals.since(0.0, [(40.0, 10), (20.0, 30)]).over_s == pytest.approx(25.0)


def test_no_arrivals_have_no_rate() -> None:
    assert Arrivals.since(5.0, []).problems_per_s == NO_ARRIVALS.problems_per_s == 0.0


def test_one_more_counts_as_if_it_had_come_with_the_others() -> None:
    before = [(40.0, 10), (20.0, 5)]
    assert Arrivals.since(2.0, before).and_one(10.0, 30) == Arrivals.since(
        2.0, [*before, (10.0, 30)]
    )
    assert Arrivals.since(2.0, before).and_one(10.0, 30).over_s == pytest.approx(800 / 45)
