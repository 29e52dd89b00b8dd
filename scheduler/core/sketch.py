"""Quantile sketches: counts in bins whose widths grow with the value, and how to read them.

Theory of operation: as in DDSketch (Masson et al., 1908.10693), bin `i > 0` holds the values in
`(UNIT * GAMMA**(i-1), UNIT * GAMMA**i]`, so the middle of a bin is off by `ALPHA` of a value at
most, whatever its size. Negative values have the mirrored bins, and bin 0 what is as small as
`UNIT`. A sketch is nothing but how often each bin occurs: two are merged by adding, in any order.
"""

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ALPHA = 0.01
"""Relative error of a quantile."""

GAMMA = (1 + ALPHA) / (1 - ALPHA)
UNIT = 1e-6
"""A microsecond: what is below counts as 0."""

MAX_BIN = 2000
"""Bins end at 2e11 s; larger values, which no clock gives, count as that."""


def bin_of(values: FloatArray) -> IntArray:
    """Bins of values; `db.reports.facts` has the same formula in SQL."""
    size = np.ceil(np.log(np.maximum(np.abs(values), UNIT) / UNIT) / math.log(GAMMA))
    return (np.sign(values) * np.minimum(size, MAX_BIN)).astype(np.int64)


def value_of(bins: IntArray) -> FloatArray:
    """The values that stand for bins."""
    middle = UNIT * 2 * GAMMA ** np.abs(bins) / (GAMMA + 1)
    return np.where(bins == 0, 0.0, np.sign(bins) * middle)


def quantiles(bins: IntArray, counts: FloatArray, shares: tuple[float, ...]) -> list[float]:
    """Linearly interpolated quantiles, like `percentile_cont` of SQL.

    Args:
        bins: Distinct bins, at least one.
        counts: How often each occurs, positive.
        shares: In [0, 1].
    """
    order = np.argsort(bins)
    last = np.cumsum(counts[order]) - 1  # rank of the last value in each bin
    ranks = np.array(shares) * last[-1]
    below = np.floor(ranks)
    places = np.searchsorted(last, [below, np.ceil(ranks)])
    lower, upper = value_of(bins[order[places]])  # (num_shares,) each
    found: list[float] = (lower + (ranks - below) * (upper - lower)).tolist()
    return found
