"""Fitting the order in which branches end: how much the first votes repeat each other, and whether
right ones come first.

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

RIGHT_FIRST_PROBLEMS = 12.0
"""Weight of the prior of `right_first`, in problems with right and wrong branches: their shares
deviate by 0.23, the means of recorded models and data sets by 0.07."""
RIGHT_FIRST_STEP = 0.05
"""Tables of votes are made for steps of `right_first`, which many profiles share."""


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


def fit_right_first(recordings: Iterable[RecordedProblem], prior: float) -> float:
    """How often a right branch ends before a wrong one of the same problem, in steps.

    Args:
        recordings: Those whose right answer is not known are left out.
        prior: The same before them.
    """
    shares = [share for r in recordings if r.is_labeled for share in _right_before_wrong(r)]
    mean = (sum(shares) + RIGHT_FIRST_PROBLEMS * prior) / (len(shares) + RIGHT_FIRST_PROBLEMS)
    return stepped(mean)


def stepped(right_first: float) -> float:
    """The nearest step, neither 0 nor 1."""
    step = RIGHT_FIRST_STEP * round(right_first / RIGHT_FIRST_STEP)
    return float(np.clip(round(step, 2), RIGHT_FIRST_STEP, 1.0 - RIGHT_FIRST_STEP))


def _right_before_wrong(record: RecordedProblem) -> list[float]:
    """Share of pairs of a right and a wrong branch whose right one is shorter; none, or one."""
    ended = [(c, t) for c, t in zip(record.votes, record.tokens, strict=True) if c is not None]
    right = np.sort([tokens for vote, tokens in ended if vote == 0])
    wrong = np.array([tokens for vote, tokens in ended if vote != 0])
    if not len(right) or not len(wrong):
        return []
    # Of equal lengths half.
    before = sum(np.searchsorted(right, wrong, side=side).mean() for side in ("left", "right"))
    return [float(before) / (2 * len(right))]


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
