"""A normal distribution of two halves: one spread below its median, another above.

Theory of operation: half of the mass lies on either side of the median, each side like half of a
normal distribution with its own standard deviation. So in units of the spread of its side, z, the
distribution function is that of the standard normal, and the moments of what exceeds a threshold
have closed forms by side (integrals of x phi(x) and x^2 phi(x)).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from scheduler.core.latency import FloatArray

PHI_0 = 1.0 / np.sqrt(2.0 * np.pi)


@dataclass(frozen=True, eq=False, slots=True)
class Sides:
    """What values tell of the two spreads, those that are only known to be larger by expectation.

    Attributes:
        expected: Expected value, relative to the median.
        is_above: P(above the median).
        below: Expected square of what lies below the median; 0 where the value lies above.
        above: The same above.
    """

    expected: FloatArray
    is_above: FloatArray
    below: FloatArray
    above: FloatArray


def sides_of(
    values: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    is_cut: NDArray[np.bool_],
    reach: FloatArray,
) -> Sides:
    """Split values around the median by side.

    Args:
        values: Relative to the median; of those cut, what they exceed.
        lower, upper: Spreads of each value's distribution.
        reach: What is expected of a cut value is at most this.
    """
    is_low = values < 0.0
    z = values / np.where(is_low, lower, upper)
    density = PHI_0 * np.exp(-0.5 * z**2)
    rest = np.where(is_low, ndtr(-z), 1.0)  # of what is cut above, the hazard tells all
    hazard = np.exp(np.log(PHI_0) - 0.5 * z**2 - log_ndtr(-z))
    # What is cut below the median may end on either side of it, what is cut above only there.
    low = np.where(is_low, 0.5 - ndtr(z), 0.0) / rest
    cut = Sides(
        expected=np.where(
            is_low, (lower * (density - PHI_0) + upper * PHI_0) / rest, upper * hazard
        ),
        is_above=1.0 - low,
        below=np.where(is_low, lower**2 * (low + z * density / rest), 0.0),
        above=upper**2 * np.where(is_low, 0.5 / rest, 1.0 + z * hazard),
    )
    return Sides(
        expected=np.where(is_cut, np.minimum(cut.expected, reach), values),
        is_above=np.where(is_cut, cut.is_above, ~is_low),
        below=np.where(is_cut, cut.below, np.where(is_low, values**2, 0.0)),
        above=np.where(is_cut, np.minimum(cut.above, reach**2), np.where(is_low, 0.0, values**2)),
    )


def beyond(
    values: FloatArray, lower: FloatArray, upper: FloatArray, share: FloatArray
) -> FloatArray:
    """The value that this share of what exceeds each value stays below, relative to the median."""
    left = ndtr(-values / np.where(values < 0.0, lower, upper)) * (1.0 - share)
    z = -ndtri(np.maximum(left, 1e-300))
    return np.asarray(z * np.where(z < 0.0, lower, upper))
