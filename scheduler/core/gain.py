"""What more branches would change: the expected rise of the probability to answer right.

Theory of operation: given that class j is right and the type (see `posterior`), of A more votes
X ~ Binomial(A, p) are right and the others continue the wrong classes as the restaurant process
does, so that a class of c among N wrong votes grows by y ~ Beta-Binomial(A - X; c, N - c + theta).
Class j wins when no rival passes it under the tie rule of `stopping`. The odds that one rival
passes are exact, classes not seen yet count with the expected number of those that pass, and the
odds of all rivals are added up. That is exact where no two can pass at once, which is where the
decision to stop falls, and otherwise a lower bound of what votes would gain.

Of R more branches some give no answer: A is R times the problem's answer rate, the learned one
blended with what this problem's branches did. Between two integers the gain is interpolated.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.posterior import LOG_GAMMA, TypeGrid, leader_of, posterior, types_of

NEGLIGIBLE = 1e-6
"""Hypotheses less likely than this are left out: no stop gain is that fine."""

ANSWER_RATE_BRANCHES = 4.0
"""Branches that the learned answer rate counts as, against those of the problem itself."""


def expected_gain(
    profile: AnswerProfile, class_counts: Sequence[int], num_unanswered: int, num_more: int
) -> float:
    """Expected rise of P(the plurality is right) if `num_more` further branches end.

    It is negative where more votes would rather entrench a wrong answer.

    Args:
        class_counts: Votes per class, in the order of their first vote, `MAX_BRANCHES` at most.
        num_unanswered: Branches that ended without an answer.
        num_more: Branches to come, `MAX_BRANCHES` at most.
    """
    return _gain(types_of(profile), tuple(class_counts), num_unanswered, num_more)


@lru_cache(maxsize=65536)
def _gain(types: TypeGrid, counts: tuple[int, ...], num_unanswered: int, num_more: int) -> float:
    if num_more < 1:
        return 0.0
    joint = posterior(types, counts, num_more)
    learned = float(joint.sum(axis=(0, 2)) @ types.answer_rates)
    seen = sum(counts)
    known = ANSWER_RATE_BRANCHES + seen + num_unanswered
    voting = num_more * (ANSWER_RATE_BRANCHES * learned + seen) / known
    below = int(voting)
    part = voting - below
    right = _right_after(types, joint, counts, below) if part < 1.0 else 0.0
    if part > 0.0:
        right = (1.0 - part) * right + part * _right_after(types, joint, counts, below + 1)
    now = float(joint[leader_of(counts)].sum()) if counts else 0.0
    return right - now


def _right_after(
    types: TypeGrid, joint: FloatArray, counts: tuple[int, ...], num_votes: int
) -> float:
    """P(the plurality is right) after so many more votes."""
    if num_votes == 0:
        return float(joint[leader_of(counts)].sum()) if counts else 0.0
    shares = _binomial(types, num_votes)
    right = 0.0
    for hypothesis in np.flatnonzero(joint.sum(axis=(1, 2)) >= NEGLIGIBLE).tolist():
        odds = joint[hypothesis].T @ shares  # (concentrations, X)
        right += float((odds * _wins(types, counts, hypothesis, num_votes)).sum())
    return right


@lru_cache(maxsize=256)
def _binomial(types: TypeGrid, num_votes: int) -> FloatArray:
    """P(X of so many votes are right); (difficulties, X)."""
    x = np.arange(num_votes + 1)
    ways = LOG_GAMMA[num_votes + 1] - LOG_GAMMA[x + 1] - LOG_GAMMA[num_votes - x + 1]
    return np.asarray(np.exp(ways + x * types.log_right + (num_votes - x) * types.log_wrong))


def _wins(types: TypeGrid, counts: tuple[int, ...], hypothesis: int, num_votes: int) -> FloatArray:
    """P(the class of the hypothesis wins) given X more votes for it; (concentrations, X)."""
    is_seen = hypothesis < len(counts)
    own = counts[hypothesis] if is_seen else 0
    # Rivals that are alike are taken together; that of no votes is a class not seen yet.
    alike = Counter((c, i < hypothesis) for i, c in enumerate(counts) if i != hypothesis)
    size = np.array([*(c for c, _ in alike), 0])
    wins_ties = np.array([*(earlier for _, earlier in alike), False])
    number = np.array([*alike.values(), 1.0])

    more = np.arange(num_votes + 1)
    total = own + more[:, None, None]  # (X, 1, 1)
    grown = size[:, None] + more  # (rivals, y)
    passes = number[:, None] * (grown > total - wins_ties[:, None])  # (X, rivals, y)
    if not is_seen:
        # An unseen right class came first as likely as an unseen wrong one of its size.
        passes[:, -1] += 0.5 * (more == more[:, None])
    passes *= more <= (num_votes - more)[:, None, None]
    passes[:, -1, 0] = 0.0
    right, rival, votes = np.nonzero(passes)
    rest = num_votes - right  # wrong votes in all
    left = rest - votes  # those of them for others than the rival
    wrong = sum(counts) - own
    others = wrong - size[rival]
    fixed = LOG_GAMMA[rest + 1] - LOG_GAMMA[votes + 1] - LOG_GAMMA[left + 1]
    fixed += LOG_GAMMA[grown[rival, votes]] - LOG_GAMMA[size[rival]]
    gamma = types.log_gamma  # (concentrations, k)
    log = (
        gamma[:, others + left]
        - gamma[:, others]
        - (gamma[:, wrong + rest] - gamma[:, wrong, None])
    )
    # A new class founds itself with weight theta.
    log += fixed + np.log(types.theta)[:, None] * (rival == len(size) - 1)
    odds = np.exp(log) * passes[right, rival, votes]
    lost = np.stack([np.bincount(right, row, minlength=num_votes + 1) for row in odds])
    wins = np.maximum(1.0 - lost, 0.0)
    if not is_seen:
        wins[:, 0] = 0.0
    return np.asarray(wins)
