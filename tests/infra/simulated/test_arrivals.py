"""The rhythm of simulated submissions."""

from datetime import UTC, datetime

import numpy as np

from infra.simulated.arrivals import DAY_S, Habit, arrivals

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def test_days_are_busier_than_nights_and_weekdays_than_weekends() -> None:
    habit = Habit("drawn", 0, 100, (1, 5), (60.0, 600.0))
    found = arrivals([habit], MONDAY, 280, np.random.default_rng(1))

    at_s = np.array([arrival.at_s for arrival in found])
    assert (np.diff(at_s) >= 0).all()
    hours, days = at_s % DAY_S // 3600, at_s // DAY_S % 7
    counts = np.bincount(days.astype(int), minlength=7) / 40
    assert np.allclose(counts[:5], 100, atol=6), "as many on a weekday as asked for"
    assert np.allclose(counts[5:], 35, atol=6)
    assert (hours == 15).sum() > 5 * (hours == 3).sum()
    assert {arrival.deadline_s for arrival in found} == {60.0, 600.0}
    assert {arrival.num_problems for arrival in found} == {1, 2, 3, 4, 5}


def test_what_has_an_hour_comes_within_it() -> None:
    habit = Habit("nightly", 0, 2, (1, 1), (60.0,), hour=21)
    found = arrivals([habit], MONDAY, 70, np.random.default_rng(1))

    assert {int(arrival.at_s % DAY_S // 3600) for arrival in found} == {21}
    assert 70 < len(found) < 150
