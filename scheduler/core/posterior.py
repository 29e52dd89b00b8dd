"""How likely each answer of a problem is right, given the votes so far.

Theory of operation: a problem is of a type (difficulty p, concentration theta) of the mixture of
`AnswerProfile.weights`, and one of its answers is right: one of the classes seen, or one not seen
yet. With n votes in classes of c_1 .. c_m, "class j is right" has the likelihood

    sum over types of weight * p^c_j * (1-p)^(n-c_j) * EPPF_theta(all counts but c_j)

and "none of them is" the same with c_j = 0 and all counts, where EPPF is the partition probability
of the Chinese restaurant process (Ewens' formula; Pitman, Combinatorial Stochastic Processes):

    EPPF_theta(n_1 .. n_k) = theta^k * product of (n_i - 1)! / (theta (theta+1) .. (theta+n-1))

That takes votes as exchangeable, which they are once all branches ended. Those that end first are
the shortest, and repeat each other more than later ones will repeat them, so n of them tell less
than n votes: as much as 1 + (n - 1) * (1 - e * u), where u is the share of branches still to come
and e is `AnswerProfile.early_correlation`. The likelihood is raised to that over n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.votes import MAX_BRANCHES

CERTAIN = 1e-4
"""Difficulties are kept this far from 0 and 1, so that no vote is impossible under a profile."""

_SIZE = 3 * MAX_BRANCHES + 2
LOG_GAMMA: FloatArray = np.concatenate([[0.0], gammaln(np.arange(1, _SIZE))])
"""log Gamma(k) for whole k; the entry of 0 is never part of a term that counts."""


@dataclass(frozen=True, eq=False, slots=True)
class TypeGrid:
    """The types of a profile in the form that the sums need.

    Attributes:
        log_weights: (difficulties, concentrations).
        log_right, log_wrong: log p and log(1 - p); (difficulties, 1).
        theta: Concentrations.
        log_gamma: log Gamma(theta + k); (concentrations, k).
        answer_rates: P(a branch answers) of each difficulty.
        early_correlation: See `AnswerProfile`.
    """

    log_weights: FloatArray
    log_right: FloatArray
    log_wrong: FloatArray
    theta: FloatArray
    log_gamma: FloatArray
    answer_rates: FloatArray
    early_correlation: float


@lru_cache(maxsize=16)
def types_of(profile: AnswerProfile) -> TypeGrid:
    """The types of a profile; the same object for equal profiles."""
    p = np.clip(np.asarray(profile.difficulty), CERTAIN, 1.0 - CERTAIN)[:, None]
    theta = np.asarray(profile.concentrations)
    return TypeGrid(
        log_weights=np.log(np.maximum(np.asarray(profile.weights), 1e-300)),
        log_right=np.log(p),
        log_wrong=np.log1p(-p),
        theta=theta,
        log_gamma=gammaln(theta[:, None] + np.arange(_SIZE)),
        answer_rates=np.asarray(profile.answer_rates),
        early_correlation=profile.early_correlation,
    )


def leader_of(class_counts: Sequence[int]) -> int:
    """Position of the class that would win now; there is at least one."""
    return max(range(len(class_counts)), key=class_counts.__getitem__)


@lru_cache(maxsize=16384)
def posterior(types: TypeGrid, counts: tuple[int, ...], num_more: int) -> FloatArray:
    """P(hypothesis, difficulty, concentration); (classes + 1, difficulties, concentrations).

    Hypothesis j is that class j is right, the last one that no class seen is.
    """
    log = log_likelihoods(types, counts)
    share = num_more / max(sum(counts) + num_more, 1)
    tempered = types.log_weights + log * tempering(sum(counts), share, types.early_correlation)
    joint = np.exp(tempered - tempered.max())
    return np.asarray(joint / joint.sum())


def tempering(num_votes: int, share_to_come: float, early_correlation: float) -> float:
    """What n votes tell, as a share of what n exchangeable votes would."""
    if num_votes < 1:
        return 1.0
    return (1.0 + (num_votes - 1) * (1.0 - early_correlation * share_to_come)) / num_votes


def log_likelihoods(types: TypeGrid, counts: tuple[int, ...]) -> FloatArray:
    """Log likelihood of exchangeable votes; the shape is that of `posterior`."""
    right = np.array([*counts, 0])
    wrong = sum(counts) - right
    # Of the groups of wrong votes the hypothesis' own class is taken out.
    groups = np.array([len(counts) - 1] * len(counts) + [len(counts)])
    sizes = LOG_GAMMA[right[:-1]]
    ewens = (
        groups[:, None] * np.log(types.theta)
        + (sizes.sum() - np.append(sizes, 0.0))[:, None]
        - (types.log_gamma[:, wrong] - types.log_gamma[:, :1]).T
    )  # (hypotheses, concentrations)
    by_difficulty = right * types.log_right + wrong * types.log_wrong  # (difficulties, hypotheses)
    return np.asarray(by_difficulty.T[:, :, None] + ewens[:, None, :])
