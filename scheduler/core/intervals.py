"""Intervals around measured fractions."""

import math
from typing import NamedTuple

Z95 = 1.959964
"""Standard normal quantile of 97.5%."""


class Interval(NamedTuple):
    """A fraction with a 95% interval around it."""

    value: float
    low: float
    high: float


def wilson(successes: float, trials: float) -> Interval | None:
    """Wilson's score interval (1927) of independent trials; None without a trial."""
    if trials <= 0:
        return None
    share = successes / trials
    spread = Z95**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    # At the ends rounding may leave the fraction a little outside.
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def clustered(
    successes: float, trials: float, squares: tuple[float, float, float]
) -> Interval | None:
    """Interval of a fraction whose trials come in groups that go right or wrong together.

    The ratio estimator's variance over groups (Cochran, Sampling Techniques, 6.4): with r of n
    right in a group and p the fraction, `sum((r - p*n)**2) / trials**2`. It is never narrower than
    Wilson's, which few groups would otherwise make it by chance.

    Args:
        squares: Sums over groups of r*r, r*n and n*n.
    """
    independent = wilson(successes, trials)
    if independent is None:
        return None
    share = independent.value
    rr, rn, nn = squares
    half = Z95 * math.sqrt(max(0.0, rr - 2 * share * rn + share * share * nn)) / trials
    return Interval(
        share,
        max(0.0, min(independent.low, share - half)),
        min(1.0, max(independent.high, share + half)),
    )
