"""Moments and quantiles of what is only known to be larger, against draws."""

import numpy as np
import pytest

from scheduler.core.split_normal import beyond, sides_of

LOWER, UPPER = 0.4, 1.5


def draw(count: int) -> np.ndarray:
    z = np.random.default_rng(4).standard_normal(count)
    return np.where(z < 0.0, LOWER, UPPER) * z


@pytest.mark.parametrize("threshold", [-0.7, -0.1, 0.0, 0.8, 2.5])
def test_what_was_cut_is_expected_as_drawn(threshold: float) -> None:
    drawn = draw(2_000_000)
    longer = drawn[drawn > threshold]
    (expected,), (is_above,), (below,), (above,) = (
        np.atleast_1d(value)
        for value in _fields(
            sides_of(
                np.array([threshold]),
                np.array([LOWER]),
                np.array([UPPER]),
                np.array([True]),
                np.array([np.inf]),
            )
        )
    )
    assert expected == pytest.approx(longer.mean(), rel=0.01)
    assert is_above == pytest.approx((longer >= 0).mean(), abs=0.005)
    assert below == pytest.approx(np.mean(longer**2 * (longer < 0)), abs=0.003)
    assert above == pytest.approx(np.mean(longer**2 * (longer >= 0)), rel=0.02)
    for share in (0.1, 0.5, 0.9):
        found = beyond(
            np.array([threshold]), np.array([LOWER]), np.array([UPPER]), np.array([share])
        )
        assert found[0] == pytest.approx(np.quantile(longer, share), abs=0.02)


def test_what_is_known_counts_as_it_is() -> None:
    values = np.array([-0.5, 0.0, 2.0])
    spreads = np.ones(3)
    expected, is_above, below, above = _fields(
        sides_of(values, spreads, spreads, np.zeros(3, dtype=bool), np.full(3, np.inf))
    )
    np.testing.assert_allclose(expected, values)
    np.testing.assert_allclose(is_above, [0.0, 1.0, 1.0])
    np.testing.assert_allclose(below, [0.25, 0.0, 0.0])
    np.testing.assert_allclose(above, [0.0, 0.0, 4.0])


def test_a_threshold_far_out_stays_finite() -> None:
    values = np.array([60.0, -60.0])
    spreads = np.ones(2)
    sides = sides_of(values, spreads, spreads, np.ones(2, dtype=bool), np.full(2, np.inf))
    assert all(np.isfinite(value).all() for value in _fields(sides))
    assert sides.expected[0] == pytest.approx(60.0, rel=0.01)
    assert sides.expected[1] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(beyond(values, spreads, spreads, np.array([0.5, 0.5]))).all()


def _fields(sides: object) -> tuple[np.ndarray, ...]:
    return tuple(getattr(sides, name) for name in ("expected", "is_above", "below", "above"))
