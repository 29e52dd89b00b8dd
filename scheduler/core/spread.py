"""How far a whole run may be off, told apart from the noise of single points.

Theory of operation: log(measured / predicted) of points that were not fitted is, per point, an
error of its run, an error of its cell (points alike, where the form of the fit is wrong in one
direction) and noise. A branch stays with a few cells for a whole run, so the errors of runs and
cells do not average out over its steps, and the noise does. The variance between cells is that of
their means less what noise alone explains. Variances of few runs or cells are shrunk to a prior,
and widened by Student's t, so that 1.645 times the result covers 95% of new runs on one side.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import stdtrit

PRIOR_SIGMA = 0.03
"""Relative error of step times of this form on GPUs: TAPER (arXiv 2605.06914) reports 1.8% on
average, PACE 3.5%."""
PRIOR_RUNS = 4
"""Runs that the prior is worth."""
Z95 = 1.6449


def run_sigma(runs: Sequence[float], cell_variance: float = 0.0) -> float:
    """Standard deviation of the log error of a new run.

    Args:
        runs: Log error of each run after the fit was centered on them; none: never repeated.
        cell_variance: Variance between cells, see `variance_between`.
    """
    freedom = max(len(runs) - 1, 0)
    squares = float(np.var(runs)) * len(runs) if freedom else 0.0
    variance = (PRIOR_RUNS * PRIOR_SIGMA**2 + squares) / (PRIOR_RUNS + freedom)
    if freedom:
        variance *= 1.0 + 1.0 / len(runs)
    widened = float(stdtrit(PRIOR_RUNS + freedom, 0.95)) / Z95
    return math.sqrt(variance * widened**2 + cell_variance)


def variance_between(log_ratios: Sequence[float], cells: Sequence[Hashable]) -> float:
    """Variance of the errors of cells, less what the noise within them explains."""
    grouped: dict[Hashable, list[float]] = defaultdict(list)
    for cell, value in zip(cells, log_ratios, strict=True):
        grouped[cell].append(value)
    if len(grouped) < 2:
        return 0.0
    freedom = sum(len(values) - 1 for values in grouped.values())
    within = sum(float(np.var(values)) * len(values) for values in grouped.values())
    noise = within / freedom if freedom else 0.0
    means = [float(np.mean(values)) for values in grouped.values()]
    explained = noise * float(np.mean([1.0 / len(values) for values in grouped.values()]))
    return max(float(np.var(means, ddof=1)) - explained, 0.0)
