"""Fitting how long branches run, from branches that stopped by themselves and branches cut.

Theory of operation: the log length of branch j of problem i is

    level_i + slope * (branch j is wrong) + spread_i * e_ij

The level is a median, and e has one spread below it and another above (`split_normal`): problems
whose branches now and then run away are others than those whose branches now and then are short,
and the shortest of many branches tells them apart. Levels vary around a mean that depends on the
problem's difficulty. A branch that was cut ran for more than its tokens: it counts as what is
expected of all that is longer (expectation maximization of a random-effects Tobit model).
Levels and spreads of problems with few branches are drawn toward the others' (empirical Bayes), and
the levels are then stretched to the variance that this takes from them. The shape of e is the
Kaplan-Meier estimate over all problems. Levels and spreads of problems become kinds of lengths
(`length_kinds`). The prior counts as `prior_problems` further problems everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.length_kinds import kinds_of
from scheduler.core.mixture import Mixture
from scheduler.core.recorded import RecordedProblem
from scheduler.core.split_normal import beyond, sides_of

ROUNDS_CUT = 30
ROUNDS_UNCUT = 4
SPREAD_BRANCHES = 6.0
"""Branches that the mean spread counts for in the spreads of a problem."""
PRIOR_BRANCHES = 8.0
"""Branches that one problem of the prior counts for in the shape within problems."""
LEVEL_PROBLEMS = 0.5
"""Problems that the prior's level counts for: families differ by more than problems within one."""
MEDIAN_VARIANCE = np.pi / 2.0
"""Variance of the median of normal values over that of their mean."""
FURTHEST = 4.0
"""No branch is expected to be longer than this many times the longest one seen, or than this many
times the prior's median: where all were cut, longer lengths would only fit better and better."""


@dataclass(frozen=True, eq=False, slots=True)
class Lengths:
    """The fields of an `AnswerProfile` that describe lengths."""

    length_quantiles: tuple[float, ...]
    length_scales: tuple[tuple[float, ...], ...]
    length_spreads: tuple[tuple[float, ...], ...]
    upper_spreads: tuple[tuple[float, ...], ...]
    wrong_length_ratio: float


@dataclass(frozen=True, eq=False, slots=True)
class _Prior:
    """A profile in the terms of the fit, all in logs; pairs are below and above the median.

    Attributes:
        level: Mean over all problems of their median log length.
        by_difficulty: Level of problems of each difficulty relative to that; (difficulties,).
        rest: Levels around it; (difficulties, kinds).
        sigma: Spread within a problem; (2,).
        shape: Quantiles of e; (quantiles,).
        log_spreads: Relative to `sigma`; (2, difficulties, kinds).
    """

    level: float
    by_difficulty: FloatArray
    rest: FloatArray
    variance: float
    sigma: FloatArray
    shape: FloatArray
    log_spreads: FloatArray
    slope: float

    @classmethod
    def of(cls, profile: AnswerProfile) -> "_Prior":
        shares = np.asarray(profile.weights).sum(axis=1)
        scales = np.log(profile.length_scales)
        inside = np.log(np.maximum(profile.length_quantiles, 1e-9))
        median = float(np.median(inside))
        inside -= median
        sigma = np.sqrt([np.mean(inside[side] ** 2) for side in (inside < 0.0, inside > 0.0)])
        means = scales.mean(axis=1)
        rest = scales - means[:, None]
        return cls(
            level=float(shares @ means + median),
            by_difficulty=means - shares @ means,
            rest=rest,
            variance=float((shares @ rest**2).mean()),
            sigma=sigma,
            shape=inside / np.where(inside < 0.0, *sigma),
            log_spreads=np.log([profile.length_spreads, profile.upper_spreads]),
            slope=float(np.log(profile.wrong_length_ratio)),
        )


def fit_lengths(
    recordings: Sequence[RecordedProblem],
    mixture: Mixture,
    profile: AnswerProfile,
    prior_problems: float,
) -> Lengths:
    """Fit lengths of at least one problem whose types are known, shrunk toward a profile."""
    prior = _Prior.of(profile)
    num = len(recordings)
    sizes = np.array([len(r.tokens) for r in recordings])
    owner = np.repeat(np.arange(num), sizes)
    logs = np.log(np.concatenate([r.tokens for r in recordings]))
    is_cut = np.concatenate([r.is_cut for r in recordings])
    wrong = np.concatenate([_centered(w) for w in mixture.wrong])

    def per_problem(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(owner, values, minlength=num), dtype=np.float64)

    slope, sigma, variance = prior.slope, prior.sigma, max(prior.variance, 1e-3)
    spread = np.ones((2, num))
    level = _medians(logs, owner, num)
    place = _places(owner, is_cut)
    ceiling = max(logs.max(), prior.level) + np.log(FURTHEST)
    curve = _level_by_difficulty(mixture, level, profile, prior, prior_problems)
    for _ in range(ROUNDS_CUT if is_cut.any() else ROUNDS_UNCUT):
        lower, upper = (sigma[:, None] * spread)[:, owner]
        residuals = logs - level[owner] - slope * wrong
        reach = ceiling - logs + residuals
        sides = sides_of(residuals, lower, upper, is_cut, reach)
        filled = beyond(residuals, lower, upper, place)
        filled = np.where(is_cut, np.minimum(filled, reach), residuals)
        medians = level + _medians(filled, owner, num)
        slope = (wrong @ (slope * wrong + sides.expected) + prior_problems * prior.slope) / (
            wrong @ wrong + prior_problems
        )
        mean = mixture.by_difficulty @ curve
        precision = sizes / MEDIAN_VARIANCE / (sigma @ spread / 2.0) ** 2
        level = medians * precision + mean / variance
        level /= precision + 1.0 / variance
        open_variance = 1.0 / (precision + 1.0 / variance)
        known = np.stack([per_problem(1.0 - sides.is_above), per_problem(sides.is_above)])
        squares = np.stack([per_problem(sides.below), per_problem(sides.above)])
        weight = PRIOR_BRANCHES * prior_problems / 2.0
        # The level takes one branch of each problem.
        freedom = np.maximum(known.sum(axis=1) - num / 2.0, 0.0)
        sigma = np.sqrt((squares.sum(axis=1) + weight * prior.sigma**2) / (freedom + weight))
        few = SPREAD_BRANCHES / 2.0
        spread = np.sqrt((squares / sigma[:, None] ** 2 + few) / (known + few))
        curve = _level_by_difficulty(mixture, level, profile, prior, prior_problems)
        rest = level - mixture.by_difficulty @ curve
        variance = ((rest**2 + open_variance).sum() + prior_problems * prior.variance) / (
            num + prior_problems
        )
    stretch = np.sqrt(1.0 + open_variance.sum() / np.maximum((rest**2).sum(), 1e-9))
    residuals = logs - level[owner] - slope * wrong
    residuals /= np.where(residuals < 0.0, *(sigma[:, None] * spread)[:, owner])
    shape = _shape(residuals, is_cut, prior.shape, PRIOR_BRANCHES * prior_problems)
    rows, spreads = kinds_of(mixture, rest * stretch, np.log(spread))
    blend = num / (num + prior_problems)
    rows = blend * rows + (1.0 - blend) * prior.rest
    spreads = blend * spreads + (1.0 - blend) * prior.log_spreads
    typical = (level.sum() + LEVEL_PROBLEMS * prior.level) / (num + LEVEL_PROBLEMS)
    # The spreads stretch lengths around the median of the shape, which is near 0 but not quite.
    middle = float(np.median(shape))
    side = int(middle > 0.0)
    rows += (curve - typical)[:, None] - sigma[side] * middle * (1.0 - np.exp(spreads[side]))
    lower, upper = (tuple(tuple(row) for row in table) for table in np.exp(spreads).tolist())
    quantiles = typical + shape * np.where(shape < 0.0, *sigma)
    return Lengths(
        length_quantiles=tuple(np.exp(np.minimum(quantiles, ceiling)).tolist()),
        length_scales=tuple(tuple(row) for row in np.exp(rows).tolist()),
        length_spreads=lower,
        upper_spreads=upper,
        wrong_length_ratio=float(np.exp(slope)),
    )


def _medians(values: FloatArray, owner: NDArray[np.int64], num: int) -> FloatArray:
    """Median of the values of each owner; owners ascend and each has one value at least."""
    ordered = values[np.lexsort((values, owner))]
    sizes = np.bincount(owner, minlength=num)
    start = np.cumsum(sizes) - sizes
    return np.asarray((ordered[start + (sizes - 1) // 2] + ordered[start + sizes // 2]) / 2.0)


def _places(owner: NDArray[np.int64], is_cut: NDArray[np.bool_]) -> FloatArray:
    """Shares at which the cut branches of a problem lie evenly among what is longer.

    Their expectations would all be alike, and would pull the median of half-cut problems up.
    """
    num_cut = np.bincount(owner, is_cut)
    before = np.cumsum(is_cut) - np.cumsum(np.append(0.0, num_cut))[owner]
    return np.asarray(np.where(is_cut, (before - 0.5) / np.maximum(num_cut[owner], 1.0), 0.0))


def _centered(wrong: FloatArray) -> FloatArray:
    """P(wrong) of each branch around the mean of its problem, 0 without a vote."""
    voted = np.isfinite(wrong)
    if not voted.any():
        return np.zeros(len(wrong))
    return np.where(voted, np.nan_to_num(wrong) - wrong[voted].mean(), 0.0)


def _level_by_difficulty(
    mixture: Mixture,
    level: FloatArray,
    profile: AnswerProfile,
    prior: _Prior,
    prior_problems: float,
) -> FloatArray:
    """Mean level of problems of each difficulty, shrunk toward the prior's curve plus a line."""
    difficulty = np.asarray(profile.difficulty)
    by_difficulty = mixture.by_difficulty
    level = level - by_difficulty @ prior.by_difficulty
    center = (level.sum() + LEVEL_PROBLEMS * prior.level) / (len(level) + LEVEL_PROBLEMS)
    expected = by_difficulty @ difficulty
    around = expected - expected.mean()
    # The ridge keeps the slope near 0 until problems of different difficulty were seen.
    slope = (around @ level) / (around @ around + 0.1 * prior_problems)
    line = center + slope * (difficulty - expected.mean())
    total = by_difficulty.T @ level + prior_problems * line
    shrunk = total / (by_difficulty.sum(axis=0) + prior_problems)
    return np.asarray(shrunk + prior.by_difficulty)


def _shape(
    residuals: FloatArray, is_cut: NDArray[np.bool_], prior: FloatArray, prior_branches: float
) -> FloatArray:
    """Quantiles of e at evenly spaced probabilities, blended with the prior's by count.

    Beyond the longest known length the prior's shape goes on from there.
    """
    # Takes a third of a second to import, which whoever only forecasts need not wait for.
    from scipy.stats import CensoredData, ecdf

    if is_cut.all():
        return prior
    known = residuals[~is_cut]
    cdf = ecdf(CensoredData(uncensored=known, right=residuals[is_cut])).cdf
    probabilities = np.linspace(0.0, 1.0, len(prior))
    place = np.searchsorted(cdf.probabilities, probabilities - 1e-12)
    found = cdf.quantiles[np.minimum(place, len(cdf.quantiles) - 1)]
    last = np.interp(cdf.probabilities[-1], probabilities, prior)
    found = np.maximum(
        found, np.where(probabilities > cdf.probabilities[-1], known.max() + prior - last, -np.inf)
    )
    blend = len(known) / (len(known) + prior_branches)
    return np.asarray(np.maximum.accumulate(blend * found + (1.0 - blend) * prior))
