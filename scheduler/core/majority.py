"""What a majority vote over fewer branches would have given, from the branches that are stored.

Theory of operation: of `N` branches of a problem every subset of `n` is as likely to have been the
`n` that ran, so the mean over all subsets is an unbiased estimate of the accuracy of a vote over
`n`, with far less spread than the first `n`. The mean is counted, not sampled: for each number of
votes of the right class, the ways in which no other class has more, by a product over classes that
keeps how many tie. A tie goes to the class that finished first, which among equal counts is any of
them as likely as another.
"""

from functools import lru_cache
from math import comb

import numpy as np

from scheduler.core.sketch import FloatArray


@lru_cache(maxsize=65_536)
def majority_accuracy(num_right: int, others: tuple[int, ...], num_silent: int, n: int) -> float:
    """Probability that a vote over `n` of a problem's branches is right.

    Args:
        num_right: Branches with the right answer.
        others: Branches of each class of equivalent wrong answers, in any order.
        num_silent: Branches without an answer, which have no vote.
        n: At least 1, and at most the number of all these branches.
    """
    total = num_right + sum(others) + num_silent
    if not 1 <= n <= total:
        raise ValueError(f"cannot take {n} of {total} branches")
    ways = 0.0
    for votes in range(1, min(num_right, n) + 1):
        tied = _ways(others, num_silent, n - votes, votes)
        ways += comb(num_right, votes) * float(tied @ (1 / np.arange(1, len(tied) + 1)))
    return ways / comb(total, n)


def _ways(others: tuple[int, ...], num_silent: int, left: int, votes: int) -> FloatArray:
    """Ways to take `left` branches without a class above `votes`, by number of classes at it."""
    ways = np.zeros((left + 1, len(others) + 1))  # (branches taken, classes that tie)
    ways[0, 0] = 1.0
    for size in others:
        longer = np.zeros_like(ways)
        for taken in range(min(size, votes, left) + 1):
            chosen = comb(size, taken) * ways[: left + 1 - taken]
            if taken == votes:
                longer[taken:, 1:] += chosen[:, :-1]
            else:
                longer[taken:] += chosen
        ways = longer
    silent = np.array([comb(num_silent, left - taken) for taken in range(left + 1)], dtype=float)
    found: FloatArray = silent @ ways
    return found
