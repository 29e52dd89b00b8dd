"""Fitting how long branches run, from branches that stopped by themselves and branches cut.

Theory of operation: the log length of branch j of problem i is

    level_i + slope * (branch j is wrong) + spread_i * e_ij

Levels vary around a mean that depends on the problem's difficulty. A branch that was cut ran for
more than its tokens: its log length is replaced by the expectation, under normal e, of all that is
longer (expectation maximization of a random-effects Tobit model). Levels and spreads of problems
with few branches are drawn toward the others' (empirical Bayes), and the levels are then stretched
to the variance that this takes from them. The shape of e is the Kaplan-Meier estimate over all
problems. Levels and spreads of problems become equally likely kinds for each difficulty: bins of
the level, each split into the narrow and the wide half of its problems, with the weights of the
problems that are like it. The prior counts as `prior_problems` further problems everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import CensoredData, ecdf

from scheduler.core.accuracy import LEVELS, AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.mixture import Mixture
from scheduler.core.recorded import RecordedProblem

ROUNDS_CUT = 30
ROUNDS_UNCUT = 4
SPREAD_BRANCHES = 6.0
"""Branches that the mean spread counts for in the spread of a problem."""
PRIOR_BRANCHES = 8.0
"""Branches that one problem of the prior counts for in the shape within problems."""
LEVEL_PROBLEMS = 0.5
"""Problems that the prior's level counts for: families differ by more than problems within one."""
NEIGHBORS = 1.5
"""Grid steps of difficulty over which problems count as alike, as a standard deviation."""
POINTS_PER_LEVEL = 20


@dataclass(frozen=True, eq=False, slots=True)
class Lengths:
    """The fields of an `AnswerProfile` that describe lengths."""

    length_quantiles: tuple[float, ...]
    length_scales: tuple[tuple[float, ...], ...]
    length_spreads: tuple[tuple[float, ...], ...]
    wrong_length_ratio: float


@dataclass(frozen=True, eq=False, slots=True)
class _Prior:
    """A profile in the terms of the fit, all in logs.

    Attributes:
        level: Mean log length over all problems.
        by_difficulty: Level of problems of each difficulty relative to that; (difficulties,).
        rest: Levels around it; (difficulties, kinds).
        sigma: Spread within a problem.
        shape: Quantiles of e; (quantiles,).
    """

    level: float
    by_difficulty: FloatArray
    rest: FloatArray
    variance: float
    sigma: float
    shape: FloatArray
    log_spreads: FloatArray
    slope: float

    @classmethod
    def of(cls, profile: AnswerProfile) -> "_Prior":
        shares = np.asarray(profile.weights).sum(axis=1)
        scales = np.log(profile.length_scales)
        inside = np.log(np.maximum(profile.length_quantiles, 1e-9))
        means = scales.mean(axis=1)
        rest = scales - means[:, None]
        return cls(
            level=float(shares @ means + inside.mean()),
            by_difficulty=means - shares @ means,
            rest=rest,
            variance=float((shares @ rest**2).mean()),
            sigma=float(inside.std()),
            shape=(inside - inside.mean()) / inside.std(),
            log_spreads=np.log(profile.length_spreads),
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
    spread = np.ones(num)
    level = per_problem(logs) / sizes
    curve = _level_by_difficulty(mixture, level, profile, prior, prior_problems)
    for _ in range(ROUNDS_CUT if is_cut.any() else ROUNDS_UNCUT):
        center = level[owner] + slope * wrong
        scale = sigma * spread[owner]
        expected, uncertain = _expected(logs, center, scale, is_cut)
        slope = (wrong @ (expected - level[owner]) + prior_problems * prior.slope) / (
            wrong @ wrong + prior_problems
        )
        without = expected - slope * wrong
        mean = mixture.by_difficulty @ curve
        precision = sizes / (sigma * spread) ** 2
        level = per_problem(without) * precision / sizes + mean / variance
        level /= precision + 1.0 / variance
        open_variance = 1.0 / (precision + 1.0 / variance)
        squares = per_problem((without - level[owner]) ** 2 + uncertain)
        known = sizes - 1.0
        weight = PRIOR_BRANCHES * prior_problems
        sigma = np.sqrt((squares.sum() + weight * prior.sigma**2) / (known.sum() + weight))
        spread = np.sqrt((squares / sigma**2 + SPREAD_BRANCHES) / (known + SPREAD_BRANCHES))
        curve = _level_by_difficulty(mixture, level, profile, prior, prior_problems)
        rest = level - mixture.by_difficulty @ curve
        variance = ((rest**2 + open_variance).sum() + prior_problems * prior.variance) / (
            num + prior_problems
        )
    stretch = np.sqrt(1.0 + open_variance.sum() / np.maximum((rest**2).sum(), 1e-9))
    residuals = (logs - level[owner] - slope * wrong) / (sigma * spread[owner])
    shape = _shape(residuals, is_cut, prior.shape, PRIOR_BRANCHES * prior_problems)
    rows, spreads = _kinds(mixture, rest * stretch, np.log(spread), prior, prior_problems)
    typical = (level.sum() + LEVEL_PROBLEMS * prior.level) / (num + LEVEL_PROBLEMS)
    # The spread stretches lengths around the median, levels are means.
    rows += (curve - typical)[:, None] - sigma * np.median(shape) * (1.0 - np.exp(spreads))
    return Lengths(
        length_quantiles=tuple(np.exp(typical + sigma * shape).tolist()),
        length_scales=tuple(tuple(row) for row in np.exp(rows).tolist()),
        length_spreads=tuple(tuple(row) for row in np.exp(spreads).tolist()),
        wrong_length_ratio=float(np.exp(slope)),
    )


def _centered(wrong: FloatArray) -> FloatArray:
    """P(wrong) of each branch around the mean of its problem, 0 without a vote."""
    voted = np.isfinite(wrong)
    if not voted.any():
        return np.zeros(len(wrong))
    return np.where(voted, np.nan_to_num(wrong) - wrong[voted].mean(), 0.0)


def _expected(
    logs: FloatArray, center: FloatArray, scale: FloatArray, is_cut: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Expected log length of each branch, and its variance: those of cut branches are not known."""
    z = (logs - center) / scale
    hazard = np.exp(-0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(-z))
    variance = np.maximum(1.0 + z * hazard - hazard**2, 0.0)
    return (
        np.where(is_cut, center + scale * hazard, logs),
        np.where(is_cut, scale**2 * variance, 0.0),
    )


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
    """Quantiles of e at evenly spaced probabilities, blended with the prior's by count."""
    if is_cut.all():
        return prior
    known, cut = residuals[~is_cut], residuals[is_cut]
    # What outlasts the longest known length counts as that long.
    cut = cut[cut < known.max()]
    cdf = ecdf(CensoredData(uncensored=known, right=cut)).cdf
    probabilities = np.linspace(0.0, 1.0, len(prior))
    place = np.searchsorted(cdf.probabilities, probabilities * cdf.probabilities[-1] - 1e-12)
    found = cdf.quantiles[np.minimum(place, len(cdf.quantiles) - 1)]
    blend = len(known) / (len(known) + prior_branches)
    return np.asarray(np.maximum.accumulate(blend * found + (1.0 - blend) * prior))


def _kinds(
    mixture: Mixture,
    rest: FloatArray,
    log_spread: FloatArray,
    prior: _Prior,
    prior_problems: float,
) -> tuple[FloatArray, FloatArray]:
    """Equally likely (level, log spread) of each difficulty; (difficulties, kinds) each.

    Each level stands for the mean length of its share of problems, so that the few very long
    problems keep their work.
    """
    num, size = mixture.by_difficulty.shape
    order = np.argsort(rest, kind="stable")
    steps = np.arange(size)
    alike = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / NEIGHBORS) ** 2)
    # One problem's worth of all problems keeps difficulties that were not seen defined.
    weights = mixture.by_difficulty @ alike + 1.0 / num  # (problems, difficulties)
    points = (np.arange(LEVELS * POINTS_PER_LEVEL) + 0.5) / (LEVELS * POINTS_PER_LEVEL)
    rows, spreads = [], []
    for weight in weights[order].T:
        ends = np.cumsum(weight) / weight.sum()
        middle = ends - 0.5 * weight / weight.sum()
        levels = np.exp(np.interp(points, middle, rest[order])).reshape(LEVELS, -1).mean(axis=1)
        members = order[np.minimum(np.searchsorted(ends, points), num - 1)].reshape(LEVELS, -1)
        halves = np.sort(log_spread[members], axis=1).reshape(LEVELS, 2, -1).mean(axis=2)
        rows.append(np.repeat(np.log(levels), 2))
        spreads.append(halves.ravel())
    blend = num / (num + prior_problems)
    return (
        blend * np.stack(rows) + (1.0 - blend) * prior.rest,
        blend * np.stack(spreads) + (1.0 - blend) * prior.log_spreads,
    )
