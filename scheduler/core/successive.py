"""Successive branches: when a problem that gets them one after another has enough, and their cost.

Theory of operation: after each vote a problem either ends or goes on with one branch more. It goes
on while that raises the probability that its answer is right by more than `stop_gain`, given that
it goes on optimally after that too: an optimal stopping problem over the number of votes and the
lead of the first answer, which is solved backwards from the last branch on sampled votes of a
profile. What comes out is the lead that is enough after each vote.

What that costs is sampled too. Every sampled problem gets lengths for its branches, which run in
`num_branches` rows; a row whose branch ends takes the next one at once, if there is time for it.
The problem ends at a *horizon* at the latest, the tokens that a row can decode in all until the
deadline. A horizon means to a successive plan what a cap means to one that starts all at once.

A branch that would be longer than the model or the client allows is cut and gives no answer.

The share of sampled answers that are right is scaled to the exact one of all branches: both have
the same sampled problems, so that most of the chance in the sample cancels. Limit: what a branch
that the horizon leaves no time for would have cost is counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Width
from scheduler.core.sampled_votes import TINY, sampled_problems, tally

FOLLOWING_QUANTILE = 0.9
"""A further branch is started if this share of all branches would end in the time left."""
WHOLE_QUANTILE = 0.99
"""Where so many of all branches end within the bound on tokens, it cuts hardly any."""
UNCUT_QUANTILE = 0.9995
"""Where so many do, none is expected to be cut. With one in a hundred a third of the jobs of 40
problems would end late, as a second branch follows the longest there can be."""
CUT_STEP = 1.05
"""Bounds on tokens are rounded down to powers of this, as each has tables of its own."""


@dataclass(frozen=True, eq=False, slots=True)
class Course:
    """What becomes of problems over time; arrays are over horizons, in tokens of a row.

    Attributes:
        accuracy: Expected accuracy when everything ends then.
        work: Mean row-tokens of a problem up to then.
        work_variance: Variance of the same over problems.
        busy: Mean rows that a problem keeps busy then.
        lasts: P(problem lasts longer).
        duration: Integral of `lasts` up to then.
    """

    accuracy: FloatArray
    work: FloatArray
    work_variance: FloatArray
    busy: FloatArray
    lasts: FloatArray
    duration: FloatArray


def lead_of(class_counts: Sequence[int]) -> int:
    """Votes by which the leader is ahead, less one where the runner-up came first.

    Args:
        class_counts: Votes per class, at least one, in the order of their first vote.
    """
    leader = max(range(len(class_counts)), key=class_counts.__getitem__)
    rivals = (n + (i < leader) for i, n in enumerate(class_counts) if i != leader)
    return class_counts[leader] - max(rivals, default=0)


@lru_cache(maxsize=256)
def tokens_to_follow(profile: AnswerProfile) -> float:
    """Tokens that there must be time for when a further branch starts."""
    return float(profile.length_quantile(FOLLOWING_QUANTILE))


@lru_cache(maxsize=256)
def whole_tokens(profile: AnswerProfile) -> float:
    """Bound on tokens that cuts hardly any branch."""
    return float(profile.length_quantile(WHOLE_QUANTILE))


@lru_cache(maxsize=256)
def uncut_tokens(profile: AnswerProfile) -> float:
    """Bound on tokens that is expected to cut none."""
    return float(profile.length_quantile(UNCUT_QUANTILE))


def cut_tokens(profile: AnswerProfile, bound: float) -> float:
    """Tokens at which branches are cut under this bound, rounded; infinite if none is."""
    if bound >= uncut_tokens(profile):
        return math.inf
    return float(CUT_STEP ** math.floor(math.log(max(bound, 1.0)) / math.log(CUT_STEP)))


@lru_cache(maxsize=256)
def enough_lead(profile: AnswerProfile, stop_gain: float, max_branches: int) -> tuple[int, ...]:
    """The lead that is enough after so many votes, from 0 votes to `max_branches`."""
    problems = sampled_problems(profile)
    votes = tally(problems.classes[:, :max_branches])
    size = max_branches + 2

    def mean(lead: NDArray[np.int64], values: FloatArray) -> FloatArray:
        """Over the problems with each lead; 0 where there are none."""
        total = np.bincount(lead, problems.weight, minlength=size)
        return np.bincount(lead, problems.weight * values, minlength=size) / np.maximum(total, TINY)

    lead, is_right = votes.lead, votes.is_right.astype(np.float64)
    value = mean(lead[:, max_branches], is_right[:, max_branches])
    enough = [1] + [0] * max_branches
    for number in range(max_branches - 1, 0, -1):
        now = mean(lead[:, number], is_right[:, number])
        later = mean(lead[:, number], value[lead[:, number + 1]]) - stop_gain
        # Leads beyond the largest one met are enough too.
        enough[number] = int(size - (now >= later)[::-1].cumprod().sum())
        value = np.maximum(now, later)
    return tuple(enough)


@lru_cache(maxsize=256)
def course_of(
    profile: AnswerProfile, width: Width, horizons: tuple[float, ...], cut: float = math.inf
) -> Course:
    """Tabulate what becomes of problems under a successive width.

    Args:
        horizons: Ascending from 0.
        cut: Tokens at which a branch that did not end is cut.
    """
    rows, most = width.num_branches, width.max_branches
    problems, number = sampled_problems(profile), np.arange(most)
    grid, weight = np.asarray(horizons), problems.weight
    tokens = np.minimum(problems.tokens[:, :most], cut)
    is_answered = problems.is_answered[:, :most] & (problems.tokens[:, :most] <= cut)
    classes = np.where(is_answered, problems.classes[:, :most], -1).astype(np.int16)
    ends, order = _ends(tokens, rows)
    votes = tally(np.take_along_axis(classes, order, axis=1))
    num_votes = np.take_along_axis(is_answered, order, axis=1).cumsum(axis=1)
    enough = np.array(enough_lead(profile, width.stop_gain, most))[num_votes]
    is_last = (votes.lead[:, 1:] >= enough) & (num_votes > 0)
    is_last[:, -1] = True
    last = is_last.argmax(axis=1)[:, None]  # the branch after which a problem ends
    stop = np.take_along_axis(ends, last, axis=1)
    # Of those that follow only what there was time for counts.
    lengths = np.take_along_axis(tokens, order, axis=1)
    needed = min(tokens_to_follow(profile), cut)
    spare = np.where(order < rows, 0.0, np.maximum(needed - lengths, 0.0))
    counted = np.maximum.accumulate(ends + spare, axis=1)

    def steps(at: FloatArray, by: FloatArray) -> FloatArray:
        """Sum over steps by so much at these tokens, as a function of the horizon."""
        place = np.searchsorted(grid, at.ravel())
        by = np.broadcast_to(by, at.shape).ravel()
        return np.bincount(place, by, minlength=len(grid) + 1)[:-1].cumsum()

    def ramps(at: FloatArray, by: FloatArray) -> FloatArray:
        """Integral of `steps`."""
        return grid * steps(at, by) - steps(at, by * at)

    gained = np.diff(votes.is_right.astype(np.float64), axis=1) * (number <= last)
    # In the sample the right answer of a tie is as likely as others to be the first.
    even = replace(profile, right_first=0.5)
    exact = float(even.accuracy_grid((most,), np.array([cut]))[0, 0])
    sampled = float(weight @ tally(classes).is_right[:, -1])
    accuracy = steps(counted, gained * weight[:, None]) * exact / max(sampled, TINY)
    # Rows whose branch ends after the last one has begun stay free.
    is_idle = (number >= most - rows) & (number < most - 1) & (number < last)
    idle = is_idle * weight[:, None]
    until = np.broadcast_to(stop, ends.shape)
    ended = steps(stop, weight[:, None])
    duration = grid - ramps(stop, weight[:, None])
    work = rows * duration - ramps(ends, idle) + ramps(until, idle)
    square = _integrate(2.0 * grid * (1.0 - ended), grid)
    spread = np.maximum(square - duration**2, 0.0) / np.maximum(duration, TINY) ** 2
    return Course(
        # With more time no more is lost; the sample may say so by chance.
        accuracy=np.maximum.accumulate(accuracy),
        work=work,
        work_variance=work**2 * spread,
        busy=rows * (1.0 - ended) - steps(ends, idle) + steps(until, idle),
        lasts=np.clip(1.0 - ended, 0.0, 1.0),
        duration=duration,
    )


def _integrate(values: FloatArray, grid: FloatArray) -> FloatArray:
    areas = 0.5 * (values[1:] + values[:-1]) * np.diff(grid)
    return np.concatenate([[0.0], areas.cumsum()])


def _ends(tokens: FloatArray, num_rows: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """When branches end that run in so many rows in turn, ascending, and which they are."""
    rows, every = tokens[:, :num_rows].copy(), np.arange(len(tokens))
    runs = np.broadcast_to(np.arange(num_rows), rows.shape).copy()
    ends, order = np.empty_like(tokens), np.empty(tokens.shape, dtype=np.int64)
    for number in range(tokens.shape[1]):
        row = rows.argmin(axis=1)
        ends[:, number], order[:, number] = rows[every, row], runs[every, row]
        begun = number + num_rows
        rows[every, row] += tokens[:, begun] if begun < tokens.shape[1] else np.inf
        runs[every, row] = begun
    return ends, order
