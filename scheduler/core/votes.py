"""Exact odds of a plurality vote for each type of problem, tabulated once per grid.

Theory of operation: of V voting branches C ~ Binomial(V, p) are right; the other W = V - C votes
form groups of equal wrong answers, a random partition with the Ewens distribution of parameter
theta (the Chinese restaurant process). Its generating function gives closed forms. With

    h_b(n) = [x^n] exp(theta * sum over i <= b of x^i / i)        n * h_b(n) = theta * sum h_b(n-i)

    P(largest group <= b)                    = h_b(n) / h_n(n)
    P(largest = m, shared by t groups)       = (theta / m)^t / t! * h_{m-1}(n - t m) / h_n(n)
    P(one group of m, all others <= m - L)   = (theta / m) * h_{m-L}(n - m) / h_n(n)      (L >= 1)

(Pitman, Combinatorial Stochastic Processes, section 1.5). Of classes with equally many votes the
one with the earliest wins. Right branches tend to end first: if one does before a wrong one with
the odds f to 1 - f, the right class is taken to win against t others with f / (f + t (1 - f)), the
model of Bradley and Terry; where f is 1/2 each is as likely. All terms are positive sums: there is
no cancellation. The other approximation is in `decided`, see there.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

from scheduler.core.latency import FloatArray

MAX_BRANCHES = 64
"""Votes tabulated; also the widest plan."""


@lru_cache(maxsize=8)
def right_table(
    difficulty: tuple[float, ...], concentrations: tuple[float, ...], right_first: float = 0.5
) -> FloatArray:
    """P(the plurality of V votes is right); (difficulties, concentrations, V).

    Args:
        right_first: As in `AnswerProfile`.
    """
    counts, right_votes, wrong_votes = _votes(difficulty)
    tables = []
    for theta in concentrations:
        bounded = _bounded_partitions(theta)
        right_of = _right_given_counts(theta, bounded, np.diagonal(bounded), right_first)
        tables.append(np.einsum("vpc,vc->pv", counts, right_of[right_votes, wrong_votes]))
    return np.stack(tables, axis=1)


@lru_cache(maxsize=8)
def lead_table(difficulty: tuple[float, ...], concentrations: tuple[float, ...]) -> FloatArray:
    """P(the leading class is at least L votes ahead of every other after V votes).

    It is the same whoever ends first; (difficulties, concentrations, V, L), L up to V + 1.
    """
    counts, right_votes, wrong_votes = _votes(difficulty)
    tables = []
    for theta in concentrations:
        bounded = _bounded_partitions(theta)
        lead_of = _lead_given_counts(theta, bounded, np.diagonal(bounded))
        tables.append(np.einsum("vpc,vcl->pvl", counts, lead_of[right_votes, wrong_votes]))
    return np.stack(tables, axis=1)


def _votes(
    difficulty: tuple[float, ...],
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """Odds of C right of V votes; (V, difficulties, C). How many are right, and wrong; (V, C)."""
    size = MAX_BRANCHES + 1
    votes, right_votes = np.indices((size, size))
    counts = binomial(np.arange(size), np.asarray(difficulty))
    return counts, right_votes, np.maximum(votes - right_votes, 0)


def decided(lead: FloatArray, num_branches: int) -> FloatArray:
    """P(vote decided after n of B branches ended) for n from 0 to B, on the last axis.

    Branches are taken to vote as they end. A lead equal to the branches still running decides when
    the leader was first: taken as the leader's share of the votes, exact for two classes.

    Args:
        lead: The last two axes (V, L) of `lead_table`.
    """
    votes = np.arange(num_branches + 1)
    running = num_branches - votes
    ahead = lead[..., votes, np.minimum(running + 1, MAX_BRANCHES + 1)]
    level = lead[..., votes, running] - ahead
    first = np.minimum((votes + running) / (2.0 * np.maximum(votes, 1)), 1.0)
    result = ahead + level * first
    result[..., 0] = 0.0
    result[..., num_branches] = 1.0
    return np.asarray(np.maximum.accumulate(result, axis=-1))


def binomial(trials: ArrayLike, probability: FloatArray) -> FloatArray:
    """Binomial odds of 0 to `MAX_BRANCHES` successes; (trials, *probability, successes)."""
    n = np.asarray(trials, dtype=np.float64).reshape(-1, *(1,) * (probability.ndim + 1))
    p = probability[None, ..., None]
    k = np.arange(MAX_BRANCHES + 1.0)
    rest = np.maximum(n - k, 0.0)
    log = gammaln(n + 1) - gammaln(k + 1) - gammaln(rest + 1) + xlogy(k, p) + xlogy(rest, 1 - p)
    return np.asarray(np.where(k <= n, np.exp(log), 0.0))


def _bounded_partitions(theta: float) -> FloatArray:
    """h_b(n); (b, n)."""
    size = MAX_BRANCHES + 1
    h = np.zeros((size, size))
    h[:, 0] = 1.0
    for n in range(1, size):
        previous = h[:, n - 1 :: -1]  # h_b(n-1), h_b(n-2), ... h_b(0)
        within = np.arange(1, n + 1)[None, :] <= np.arange(size)[:, None]
        h[:, n] = theta / n * (previous * within).sum(axis=1)
    return h


def _right_given_counts(
    theta: float, bounded: FloatArray, total: FloatArray, right_first: float
) -> FloatArray:
    """P(right wins) given C right and W wrong votes; (C, W)."""
    size = MAX_BRANCHES + 1
    result = np.zeros((size, size))
    wrong = np.arange(size)
    for right in range(1, size):
        result[right] = bounded[right - 1] / total
        weight = 1.0
        for ties in range(1, MAX_BRANCHES // right + 1):
            weight *= theta / right / ties
            rest = wrong - ties * right
            wins = right_first / (right_first + ties * (1.0 - right_first))
            odds = weight * bounded[right - 1][np.maximum(rest, 0)] / total * wins
            result[right] += np.where(rest >= 0, odds, 0.0)
    return result


def _lead_given_counts(theta: float, bounded: FloatArray, total: FloatArray) -> FloatArray:
    """P(leader at least L ahead) given C right and W wrong votes; (C, W, L)."""
    size = MAX_BRANCHES + 1
    right, wrong, lead = np.ogrid[:size, :size, : size + 1]
    bound = right - lead
    right_leads = np.where(
        bound >= 0, bounded[np.clip(bound, 0, MAX_BRANCHES), wrong] / total[wrong], 0.0
    )
    wrong, lead, group = np.ogrid[:size, : size + 1, :size]
    is_possible = (group >= np.maximum(lead, 1)) & (group <= wrong)
    rivals = bounded[np.clip(group - lead, 0, MAX_BRANCHES), np.clip(wrong - group, 0, size - 1)]
    odds = np.where(is_possible, theta / np.maximum(group, 1) * rivals / total[wrong], 0.0)
    at_least = np.concatenate(
        [odds[..., ::-1].cumsum(-1)[..., ::-1], np.zeros((size, size + 1, 1))], -1
    )
    right, wrong, lead = np.ogrid[:size, :size, : size + 1]
    wrong_leads = at_least[wrong, lead, np.minimum(right + lead, size)]
    # A lead of at least 0 is certain; the group formula holds from 1 on.
    return np.asarray(np.where(lead == 0, 1.0, np.minimum(right_leads + wrong_leads, 1.0)))
