"""Quantiles of a sketch are within its error of the exact ones, however it was put together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.sketch import ALPHA, UNIT, bin_of, quantiles, value_of

SHARES = (0.0, 0.01, 0.5, 0.9, 0.99, 1.0)

durations = st.floats(10 * UNIT, 1e8)


@given(st.lists(durations, min_size=1, max_size=200))
def test_quantiles_are_within_a_hundredth_of_the_exact_ones(values: list[float]) -> None:
    bins, counts = np.unique(bin_of(np.array(values)), return_counts=True)

    found = quantiles(bins, counts.astype(float), SHARES)

    assert found == pytest.approx(np.quantile(values, SHARES).tolist(), rel=ALPHA * 1.0001)


@given(st.floats(-1e8, 1e8))
def test_a_bin_stands_for_its_values_on_either_side_of_zero(value: float) -> None:
    (found,) = value_of(bin_of(np.array([value])))

    assert found == pytest.approx(value, rel=ALPHA * 1.0001, abs=UNIT)


def test_the_order_of_bins_does_not_matter() -> None:
    bins, counts = np.array([5, -7, 0]), np.array([2.0, 3.0, 1.0])
    assert quantiles(bins, counts, (0.1, 0.5, 0.9)) == quantiles(
        bins[::-1], counts[::-1], (0.1, 0.5, 0.9)
    )


def test_what_no_clock_gives_is_the_last_bin() -> None:
    assert bin_of(np.array([1e300, -1e300])).tolist() == [2000, -2000]
