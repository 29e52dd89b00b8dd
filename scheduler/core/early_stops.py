"""When problems stop under a plan's stop gain, and what that costs in accuracy.

Theory of operation: a sample of problems of every type, drawn once with a constant seed, votes
branch by branch; a problem stops at the first vote at which its lead over the runner-up reaches
what the stop rule asks for, with so many votes and so many branches to come. That lead is found by
asking the rule (`gain`) about two-class votes on a coarse grid and interpolated between: with the
lead and the number of votes given, further classes change little. The same sample tells how often
the answer at the stop is right where that of all branches is not.

Limits: votes of the sample are exchangeable and every branch votes. Early branches agree more than
that (see `finish_order`), so that real problems stop rather sooner.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.gain import expected_gain
from scheduler.core.latency import FloatArray
from scheduler.core.votes import MAX_BRANCHES

SEED = 20250519
SAMPLES = 32
"""Problems per type: of 150 types together they leave an error of half a percent of the work."""

VOTES = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48)
TO_COME = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 48)
FAR = 72
"""Grid on which the rule is asked, up to this sum."""


@dataclass(frozen=True, eq=False, slots=True)
class Stops:
    """How problems of one width end.

    Attributes:
        stopped: P(stopped after n branches ended); (difficulties, n from 0 to the width).
        loss: P(right with all branches) - P(right at the stop); (difficulties,).
    """

    stopped: FloatArray
    loss: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class _Sample:
    """Votes of sampled problems; (difficulties, concentrations, problems, votes from 0).

    Attributes:
        lead: Votes by which the leader is ahead of every other class, less one where that class
            came first.
        is_right: Whether the leader is right.
    """

    lead: NDArray[np.int16]
    is_right: NDArray[np.bool_]


@lru_cache(maxsize=256)
def stops_of(profile: AnswerProfile, num_branches: int, stop_gain: float) -> Stops:
    """Tabulate the stops of a width under a stop gain as `Plan` defines it."""
    if stop_gain <= 0:
        stopped = profile.decided_after(num_branches)
        if stop_gain < 0:
            stopped = np.zeros_like(stopped)
            stopped[:, -1] = 1.0
        return Stops(stopped, np.zeros(len(profile.difficulty)))
    sample = _sample(profile.difficulty, profile.concentrations)
    votes = np.arange(1, num_branches)
    needed = _needed_lead(profile, stop_gain, votes, num_branches - votes)
    # A lead of as many votes as branches are to come decides.
    needed = np.minimum(np.rint(needed), num_branches - votes)
    stops = np.ones((*sample.lead.shape[:3], num_branches), dtype=bool)  # the last one for certain
    stops[..., :-1] = sample.lead[..., 1:num_branches] >= needed
    at = stops.argmax(axis=-1) + 1
    weights = np.asarray(profile.weights)
    given = weights / np.maximum(weights.sum(axis=1), 1e-300)[:, None] / sample.lead.shape[2]
    by_votes = (at[..., None] <= np.arange(num_branches + 1)).sum(axis=2)
    then = np.take_along_axis(sample.is_right, at[..., None], axis=-1)[..., 0]
    worse = (sample.is_right[..., num_branches].astype(np.float64) - then).sum(axis=2)
    return Stops(
        stopped=np.asarray(np.einsum("pt,ptn->pn", given, by_votes)),
        loss=np.asarray((given * worse).sum(axis=1)),
    )


def _needed_lead(
    profile: AnswerProfile, stop_gain: float, votes: NDArray[np.int64], to_come: NDArray[np.int64]
) -> FloatArray:
    """Smallest lead that stops, bilinear in the logarithms of votes and of branches to come."""
    table = _lead_table(profile, stop_gain)
    row, down = _position(np.log(VOTES), np.log(votes))
    column, right = _position(np.log(TO_COME), np.log(to_come))
    upper = table[row, column] * (1.0 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
    return np.asarray(upper * (1.0 - down) + lower * down)


def _position(grid: FloatArray, values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    left = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return left, (values - grid[left]) / (grid[left + 1] - grid[left])


@lru_cache(maxsize=64)
def _lead_table(profile: AnswerProfile, stop_gain: float) -> FloatArray:
    """(VOTES, TO_COME)."""
    table = np.zeros((len(VOTES), len(TO_COME)))
    for row, votes in enumerate(VOTES):
        lead = 0
        for column, to_come in enumerate(TO_COME):
            # Rarely less than for fewer branches to come; no width needs the far corner exactly.
            if votes + to_come <= FAR:
                lead = _lead(profile, stop_gain, votes, to_come, max(lead - 1, 0))
            table[row, column] = lead
    return table


def _lead(profile: AnswerProfile, stop_gain: float, votes: int, to_come: int, least: int) -> int:
    """Smallest lead from `least` on at which a two-class vote is worth less than the stop gain."""
    for lead in range(least, votes + 1):
        behind = (votes - lead + 1) // 2  # one vote more where the parity asks for it
        counts = (lead + behind, behind) if behind else (lead,)
        if expected_gain(profile, counts, 0, to_come) < stop_gain:
            return lead
    return votes + 1


@lru_cache(maxsize=4)
def _sample(difficulty: tuple[float, ...], concentrations: tuple[float, ...]) -> _Sample:
    rng = np.random.default_rng(SEED)
    shape = (len(difficulty), len(concentrations), SAMPLES)
    every = np.arange(math.prod(shape))
    p = np.broadcast_to(np.asarray(difficulty)[:, None, None], shape).ravel()
    theta = np.broadcast_to(np.asarray(concentrations)[None, :, None], shape).ravel()
    right_draws, wrong_draws = rng.random((2, MAX_BRANCHES, len(every)))

    wrong_votes = np.zeros((len(every), MAX_BRANCHES), dtype=np.int16)  # their classes, in order
    num_wrong, num_classes = np.zeros((2, len(every)), dtype=np.int64)
    counts = np.zeros((len(every), MAX_BRANCHES + 1), dtype=np.int16)
    first = np.full_like(counts, MAX_BRANCHES)
    lead = np.zeros((len(every), MAX_BRANCHES + 1), dtype=np.int16)
    is_right = np.zeros(lead.shape, dtype=bool)
    for vote in range(MAX_BRANCHES):
        says_right = right_draws[vote] < p
        place = wrong_draws[vote] * (num_wrong + theta)
        repeats = place < num_wrong
        index = np.where(repeats, place, 0.0).astype(np.int64)
        chosen = np.where(repeats, wrong_votes[every, index], num_classes + 1)
        chosen = np.where(says_right, 0, chosen)
        num_classes += ~says_right & ~repeats
        wrong_votes[every, num_wrong] = chosen
        num_wrong += ~says_right
        counts[every, chosen] += 1
        first[every, chosen] = np.minimum(first[every, chosen], vote)
        leader = (counts * (MAX_BRANCHES + 1) - first).argmax(axis=1)
        # A rival that came first wins ties, which is as good as one vote more.
        rivals = counts + (first < first[every, leader][:, None])
        rivals[every, leader] = 0
        lead[:, vote + 1] = counts[every, leader] - rivals.max(axis=1)
        is_right[:, vote + 1] = leader == 0
    return _Sample(lead.reshape(*shape, -1), is_right.reshape(*shape, -1))
