"""Fitting how much the votes of the branches that end first repeat each other.

Theory of operation: branches that run together end in the order of their lengths, so the first
votes are those of the shortest branches and agree more than votes drawn at random; `posterior`
discounts them by `AnswerProfile.early_correlation`. Here that number is fitted: recorded branches
of a problem are taken as started together, and at several points of their finish order the stated
probability that the leader is right is scored by its logarithm. Each problem counts once, however
many points it has. The result is the mean over a grid, each value weighted by its likelihood: with
nothing to learn from it is the middle, and most problems, being agreed on, tell next to nothing.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.posterior import TypeGrid, leader_of, log_likelihoods, tempering, types_of
from scheduler.core.recorded import RecordedProblem

GRID: FloatArray = np.linspace(0.0, 1.0, 21)

POINTS = (2, 3, 4, 6, 8, 12, 16, 24)
"""Ended branches after which the leader is judged; one vote tells the same at any correlation."""

WIDTH = 32
"""Branches of a problem taken as started together: few plans are wider."""


def fit_early_correlation(profile: AnswerProfile, recordings: Iterable[RecordedProblem]) -> float:
    """The correlation under which the recorded leaders are foretold best.

    Args:
        profile: Fitted to the same recordings otherwise; its own value is not used.
        recordings: Those whose right answer is not known are left out.
    """
    types = types_of(profile)
    total = sum((_score(types, r) for r in recordings if r.is_labeled), np.zeros(len(GRID)))
    likelihood = np.exp(total - total.max())
    return float(GRID @ likelihood / likelihood.sum())


def _score(types: TypeGrid, record: RecordedProblem) -> FloatArray:
    """Mean log score of one problem over the points, for each value of the grid."""
    branches = list(zip(record.tokens, record.classes, record.is_cut, strict=True))[:WIDTH]
    # A cut branch would have run on, so it never ends among those that did.
    ended = sorted((b for b in branches if not b[2]), key=lambda branch: branch[0])
    scores = []
    for num_ended in (n for n in POINTS if n <= len(ended) and n < len(branches)):
        counts = Counter(vote for _, vote, _ in ended[:num_ended] if vote is not None)
        if counts:
            votes = tuple(counts.values())
            leads = _leader_is_right(types, votes, len(branches) - num_ended)
            is_right = list(counts)[leader_of(votes)] == 0
            scores.append(np.log(leads if is_right else 1.0 - leads))
    return np.asarray(np.mean(scores, axis=0)) if scores else np.zeros(len(GRID))


@lru_cache(maxsize=4096)
def _leader_is_right(types: TypeGrid, counts: tuple[int, ...], num_more: int) -> FloatArray:
    """P(the leader is right) for each value of the grid."""
    share = num_more / (sum(counts) + num_more)
    power = np.array([tempering(sum(counts), share, value) for value in GRID])
    odds = types.log_weights + power[:, None, None, None] * log_likelihoods(types, counts)
    joint = np.exp(odds - odds.max(axis=(1, 2, 3), keepdims=True))
    by_hypothesis = joint.sum(axis=(2, 3))
    leads = by_hypothesis[:, leader_of(counts)] / by_hypothesis.sum(axis=1)
    return np.asarray(np.clip(leads, 1e-9, 1.0 - 1e-9))
