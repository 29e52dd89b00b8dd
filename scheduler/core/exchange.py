"""Exchanging rows between two jobs: what single upgrades cannot reach.

Theory of operation: an upgrade may be blocked by rows, or by a tight finish, that another job
holds for a smaller gain. All pairs of candidates of two jobs are weighed at once. With a before b,
a's added cost must leave the jobs between them and b itself in time, both added costs the jobs
behind b. The best pair of each two jobs is taken, over and over, until no two jobs gain. Jobs of
different tenants exchange nothing: their shares are settled by fair queueing.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import ROUNDING_S, Bounds

IntArray = NDArray[np.int64]

MAX_EXCHANGED = 12
"""Jobs up to which exchanges are looked for: with more, one step weighs little in the whole."""
MAX_SWEEPS = 8
"""Passes over all pairs; two or three suffice nearly always."""


def exchange_pairs(bounds: Bounds, jobs: IntArray) -> None:
    """Exchange rows between jobs that are in time while that raises their weighted accuracy."""
    tenant = bounds.table["tenant"]
    pairs = [(a, b) for a, b in combinations(jobs.tolist(), 2) if tenant[a] == tenant[b]]
    for _ in range(MAX_SWEEPS):
        gains = [_exchange(bounds, a, b) for a, b in pairs]
        if not any(gains):
            break


def _exchange(bounds: Bounds, a: int, b: int) -> bool:
    """Put the best pair of candidates of two jobs in force, a before b; True when it gains."""
    first, second = _worthwhile(bounds, a), _worthwhile(bounds, b)
    in_a, in_b = np.full(len(first), a), np.full(len(second), b)
    added_a = bounds.costs_s(in_a, first) - bounds.cost_s[a]
    added_b = bounds.costs_s(in_b, second) - bounds.cost_s[b]
    before_s, slack_s = bounds.before_s(), bounds.slack_s()
    between_s = slack_s[a + 1 : b].min(initial=np.inf)
    behind_s = slack_s[b + 1 :].min(initial=np.inf)
    starts_a = bounds.must_starts_s(in_a, first) - before_s[a]
    starts_b = bounds.must_starts_s(in_b, second) - before_s[b]
    allowed = (
        ((added_a <= between_s + ROUNDING_S) & (starts_a >= -ROUNDING_S))[:, None]
        & (added_a[:, None] <= starts_b[None, :] + ROUNDING_S)
        & (added_a[:, None] + added_b[None, :] <= behind_s + ROUNDING_S)
    )
    weight = bounds.table["weight"]
    value_a = weight[a] * bounds.accuracies(in_a, first)
    value_b = weight[b] * bounds.accuracies(in_b, second)
    value = np.where(allowed, value_a[:, None] + value_b[None, :], -np.inf)
    best_a, best_b = np.unravel_index(value.argmax(), value.shape)
    now = np.array([bounds.chosen[a]]), np.array([bounds.chosen[b]])
    held = weight[a] * bounds.accuracies(np.array([a]), now[0])[0]
    held += weight[b] * bounds.accuracies(np.array([b]), now[1])[0]
    if value[best_a, best_b] <= held + bounds.config.accuracy_tie * min(weight[a], weight[b]):
        return False
    bounds.choose(np.array([a, b]), np.array([first[best_a], second[best_b]]))
    return True


def _worthwhile(bounds: Bounds, index: int) -> IntArray:
    """Candidates that none beats in finish, cost and accuracy at once."""
    useful = np.flatnonzero(bounds.menus.is_useful[bounds.classes[index]])
    accuracy = bounds.menus.accuracy[bounds.classes[index], useful]
    return useful[accuracy <= bounds.ceiling[index] + bounds.config.accuracy_tie]
