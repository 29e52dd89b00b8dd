"""Fitting the mixture over types of problems, whether or not it is known which answer is right.

Theory of operation: a problem with c right votes and wrong groups of sizes n_1 .. n_k has, for a
type (p, theta), the likelihood p^c (1-p)^(sum n) times Ewens' sampling formula

    theta^k * product of (n_j - 1)! / (theta (theta + 1) .. (theta + sum n - 1))

Without a reference answer any class may be the right one, or none: the likelihood is the sum over
these hypotheses. It says much about how votes agree and little about whether unanimous votes are
right, so that the prior decides that. The mixture over the grid of types is found by expectation
maximization; the prior adds `prior_problems` pseudo-problems spread as its own weights, which both
smooths the mixture and rules few problems.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.recorded import RecordedProblem

MAX_ROUNDS = 500
TOLERANCE = 1e-7
"""Expectation maximization stops when no weight moves more than this."""


@dataclass(frozen=True, eq=False, slots=True)
class Mixture:
    """Types of recorded problems.

    Attributes:
        weights: Probability of each type; (difficulties, concentrations).
        by_difficulty: Posterior difficulty of each problem; (problems, difficulties).
        wrong: P(vote is wrong) of each branch of each problem, NaN where it gave no vote.
    """

    weights: FloatArray
    by_difficulty: FloatArray
    wrong: tuple[FloatArray, ...]


def fit_mixture(
    recordings: Sequence[RecordedProblem], prior: AnswerProfile, prior_problems: float
) -> Mixture:
    """Find the mixture that explains the votes of at least one problem."""
    p = np.asarray(prior.difficulty)[:, None]
    theta = np.asarray(prior.concentrations)[None, :]
    hypotheses = [_log_likelihoods(record, p, theta) for record in recordings]
    log = np.stack([np.logaddexp.reduce(each, axis=0) for each in hypotheses])
    odds = np.exp(log - log.max(axis=(1, 2), keepdims=True))
    prior_weights = np.asarray(prior.weights)
    weights = prior_weights
    for _ in range(MAX_ROUNDS):
        new = _posterior(odds, weights).sum(axis=0) + prior_problems * prior_weights
        new /= new.sum()
        moved = np.abs(new - weights).max()
        weights = new
        if moved < TOLERANCE:
            break
    return Mixture(
        weights=weights,
        by_difficulty=_posterior(odds, weights).sum(axis=2),
        wrong=tuple(
            _wrong(record, each, weights)
            for record, each in zip(recordings, hypotheses, strict=True)
        ),
    )


def _posterior(odds: FloatArray, weights: FloatArray) -> FloatArray:
    joint = odds * weights
    return np.asarray(joint / joint.sum(axis=(1, 2), keepdims=True))


def _counts(record: RecordedProblem) -> Counter[int]:
    return Counter(c for c in record.votes if c is not None)


def _log_likelihoods(record: RecordedProblem, p: FloatArray, theta: FloatArray) -> FloatArray:
    """Log likelihood of "this class is right" for each class seen, then for "none of them is".

    With a reference answer there is one hypothesis. (hypotheses, difficulties, concentrations)
    """
    counts = _counts(record)
    sizes = np.array(list(counts.values()), dtype=np.float64)
    if record.is_labeled:
        right = np.array([counts[0]], dtype=np.float64)
        sizes = np.array([n for c, n in counts.items() if c != 0], dtype=np.float64)
        groups = np.array([len(sizes)])
        factorials = np.array([gammaln(sizes).sum()])
        wrong = np.array([sizes.sum()])
    else:
        right = np.append(sizes, 0.0)
        groups = np.array([len(sizes) - 1] * len(sizes) + [len(sizes)])
        factorials = gammaln(sizes).sum() - np.append(gammaln(sizes), 0.0)
        wrong = sizes.sum() - right
    right, wrong, groups, factorials = (
        values[:, None, None] for values in (right, wrong, groups, factorials)
    )
    ewens = groups * np.log(theta) + factorials - (gammaln(theta + wrong) - gammaln(theta))
    return np.asarray(xlogy(right, p) + xlog1py(wrong, -p) + ewens)


def _wrong(record: RecordedProblem, log: FloatArray, weights: FloatArray) -> FloatArray:
    """P(wrong) of the votes of one problem; (branches,)."""
    if record.is_labeled:
        is_right = {0: 1.0}
    else:
        with np.errstate(divide="ignore"):
            joint = np.exp(log - log.max()) * weights
        odds = joint.sum(axis=(1, 2)) / joint.sum()
        is_right = dict(zip(_counts(record), odds[:-1].tolist(), strict=True))
    return np.array([np.nan if c is None else 1.0 - is_right.get(c, 0.0) for c in record.votes])
