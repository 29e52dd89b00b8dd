"""Intervals around fractions hold what they say."""

import numpy as np
import pytest
from scipy.stats import binomtest

from scheduler.core.intervals import clustered, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (3, 10), (10, 10), (950, 1000)])
def test_the_interval_of_independent_trials_is_that_of_scipy(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    found = wilson(successes, trials)
    assert found is not None
    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_there_is_no_fraction_of_nothing() -> None:
    assert wilson(0, 0) is None
    assert clustered(0, 0, (0, 0, 0)) is None


def test_groups_that_go_right_together_widen_the_interval_until_it_holds() -> None:
    rng = np.random.default_rng(3)
    held = {"independent": 0, "clustered": 0}
    for _ in range(400):
        n = np.full(60, 20.0)
        r = rng.binomial(20, rng.beta(2, 2, size=60)).astype(float)
        squares = (float(r @ r), float(r @ n), float(n @ n))
        for name, interval in (
            ("independent", wilson(r.sum(), n.sum())),
            ("clustered", clustered(r.sum(), n.sum(), squares)),
        ):
            assert interval is not None
            held[name] += interval.low <= 0.5 <= interval.high
    assert held["independent"] < 0.8 * 400
    assert 0.92 * 400 <= held["clustered"] <= 0.98 * 400
