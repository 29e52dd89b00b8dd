"""Fitting an `AnswerProfile` to recorded branches, shrunk toward a prior.

Theory of operation: a problem with c right votes and wrong groups of sizes n_1 .. n_k has, for a
type (p, theta), the likelihood p^c (1-p)^(sum n) times Ewens' sampling formula

    theta^k * product of (n_j - 1)! / (theta (theta + 1) .. (theta + sum n - 1))

The mixture over the grid of types is found by expectation maximization; the prior adds
`prior_problems` pseudo-problems spread as its own weights, which both smooths the mixture and rules
few problems. Lengths split into a scale per problem (its geometric mean), regressed on difficulty,
and the spread within problems; both spreads are blended with the prior's by their counts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln, xlogy

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray

MAX_ROUNDS = 500
TOLERANCE = 1e-7
"""Expectation maximization stops when no weight moves more than this."""

BIN_POINTS = 20
"""Quantiles averaged for one problem scale."""


@dataclass(frozen=True, slots=True)
class RecordedProblem:
    """Finished branches of one problem, aborted ones left out.

    Attributes:
        classes: Vote class of each branch: 0 is right, other numbers are distinct wrong answers,
            None is no answer.
        tokens: Completion tokens of each branch, positive.
    """

    classes: tuple[int | None, ...]
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.tokens) or not self.tokens:
            raise ValueError("a recorded problem needs as many classes as token counts, at least 1")
        if min(self.tokens) < 1:
            raise ValueError("a recorded branch needs at least 1 token: drop failed requests")


def fit_answers(
    recordings: Sequence[RecordedProblem],
    *,
    model: str,
    family: str,
    source: str,
    prior: AnswerProfile | None = None,
    prior_problems: float = 3.0,
) -> AnswerProfile:
    """Fit difficulty, collisions of wrong answers, answer rates and lengths.

    Args:
        source: Where the recordings come from, kept in the profile.
        prior: Shape to shrink toward, and its grids; the cold start by default.
        prior_problems: Weight of the prior, in problems.

    Raises:
        ValueError: There are no recordings.
    """
    if not recordings:
        raise ValueError("a fit needs at least one recorded problem")
    prior = prior or AnswerProfile.uninformed(model, family)
    types = _mixture(recordings, prior, prior_problems)  # (problems, difficulties, concentrations)
    weights = types.sum(axis=0) + prior_problems * np.asarray(prior.weights)
    weights /= weights.sum()
    by_difficulty = types.sum(axis=2)  # (problems, difficulties)

    answered = np.array([np.mean([c is not None for c in r.classes]) for r in recordings])
    overall = (answered.sum() + prior_problems * 0.95) / (len(recordings) + prior_problems)
    rates = by_difficulty.T @ answered + prior_problems * overall
    rates /= by_difficulty.sum(axis=0) + prior_problems

    logs = [np.log(np.asarray(r.tokens, dtype=np.float64)) for r in recordings]
    level = np.array([log.mean() for log in logs])
    scales = _level_by_difficulty(
        by_difficulty, level, np.asarray(prior.difficulty), prior_problems
    )
    typical = float(np.exp(level.mean()))
    rest = level - by_difficulty @ scales
    # Each of the equally likely scales stands for the mean of its share of problems, so that the
    # few very long problems keep their work.
    points = len(prior.problem_scales) * BIN_POINTS
    fine = np.quantile(rest, (np.arange(points) + 0.5) / points)
    binned = np.log(np.exp(fine).reshape(-1, BIN_POINTS).mean(axis=1))
    blend = len(rest) / (len(rest) + prior_problems)
    between = blend * binned + (1.0 - blend) * np.log(prior.problem_scales)
    # Deviations from a mean of m are short by sqrt((m - 1) / m).
    deviations = [
        (log - log.mean()) * np.sqrt(len(log) / (len(log) - 1)) for log in logs if len(log) > 1
    ]
    grid = np.linspace(0.0, 1.0, len(prior.length_quantiles))
    prior_within = np.log(np.maximum(prior.length_quantiles, 1e-9))
    within = _blended_quantiles(
        np.concatenate([*deviations, np.empty(0)]),
        grid,
        prior_within - prior_within.mean(),
        prior_problems,
    )
    return replace(
        prior,
        model=model,
        family=family,
        source=source,
        num_problems_seen=len(recordings),
        num_branches_seen=sum(len(r.tokens) for r in recordings),
        length_quantiles=tuple((typical * np.exp(np.maximum.accumulate(within))).tolist()),
        problem_scales=tuple(np.exp(between).tolist()),
        length_scales=tuple((np.exp(scales) / typical).tolist()),
        answer_rates=tuple(np.clip(rates, 0.0, 1.0).tolist()),
        weights=tuple(tuple(row) for row in weights.tolist()),
    )


def _mixture(
    recordings: Sequence[RecordedProblem], prior: AnswerProfile, prior_problems: float
) -> FloatArray:
    """Posterior of each problem's type; (problems, difficulties, concentrations)."""
    p = np.asarray(prior.difficulty)[:, None]
    theta = np.asarray(prior.concentrations)[None, :]
    log_odds = np.stack([_log_likelihood(r, p, theta) for r in recordings])
    odds = np.exp(log_odds - log_odds.max(axis=(1, 2), keepdims=True))
    prior_weights = np.asarray(prior.weights)
    weights = prior_weights
    for _ in range(MAX_ROUNDS):
        posterior = odds * weights
        posterior /= posterior.sum(axis=(1, 2), keepdims=True)
        new = posterior.sum(axis=0) + prior_problems * prior_weights
        new /= new.sum()
        moved = np.abs(new - weights).max()
        weights = new
        if moved < TOLERANCE:
            break
    posterior = odds * weights
    return np.asarray(posterior / posterior.sum(axis=(1, 2), keepdims=True))


def _log_likelihood(record: RecordedProblem, p: FloatArray, theta: FloatArray) -> FloatArray:
    counts = Counter(c for c in record.classes if c is not None)
    right = counts.pop(0, 0)
    groups = np.array(list(counts.values()), dtype=np.float64)
    wrong = groups.sum()
    ewens = len(groups) * np.log(theta) + gammaln(groups).sum()
    ewens = ewens - (gammaln(theta + wrong) - gammaln(theta))
    return np.asarray(xlogy(right, p) + xlogy(wrong, 1.0 - p) + ewens)


def _level_by_difficulty(
    by_difficulty: FloatArray, level: FloatArray, difficulty: FloatArray, prior_problems: float
) -> FloatArray:
    """Mean log length of problems of each difficulty, shrunk toward a straight line."""
    expected = by_difficulty @ difficulty
    centered = expected - expected.mean()
    # The ridge keeps the slope near 0 until problems of different difficulty were seen.
    slope = (centered @ level) / (centered @ centered + 0.1 * prior_problems)
    line = level.mean() + slope * (difficulty - expected.mean())
    total = by_difficulty.T @ level + prior_problems * line
    return np.asarray(total / (by_difficulty.sum(axis=0) + prior_problems))


def _blended_quantiles(
    values: FloatArray, shares: FloatArray, prior: FloatArray, prior_count: float
) -> FloatArray:
    """Empirical quantiles blended with the prior's by count."""
    if not values.size:
        return prior
    blend = values.size / (values.size + prior_count)
    return np.asarray(blend * np.quantile(values, shares) + (1.0 - blend) * prior)
