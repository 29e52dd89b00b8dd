"""When problems stop under a plan's stop gain, and what that costs in accuracy.

Theory of operation: a sample of problems of every type (`sampled_votes`) votes branch by branch; a
problem stops at the first vote at which its lead over the runner-up reaches what the stop rule asks
for, with so many votes and so many branches to come. That lead is found by asking the rule (`gain`)
about two-class votes on a coarse grid and interpolated between: with the lead and the number of
votes given, further classes change little. The same sample tells how often the answer at the stop
is right where that of all branches is not.

Limits: votes of the sample are exchangeable and every branch votes. Early branches agree more than
that (see `finish_order`), so that real problems stop rather sooner.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.gain import expected_gain
from scheduler.core.latency import FloatArray
from scheduler.core.sampled_votes import SAMPLES, sampled_tally

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


@lru_cache(maxsize=256)
def stops_of(profile: AnswerProfile, num_branches: int, stop_gain: float) -> Stops:
    """Tabulate the stops of a width under a stop gain as `Plan` defines it."""
    if stop_gain <= 0:
        stopped = profile.decided_after(num_branches)
        if stop_gain < 0:
            stopped = np.zeros_like(stopped)
            stopped[:, -1] = 1.0
        return Stops(stopped, np.zeros(len(profile.difficulty)))
    shape = (len(profile.difficulty), len(profile.concentrations), SAMPLES, -1)
    sample = sampled_tally(profile.difficulty, profile.concentrations)
    lead, is_right = sample.lead.reshape(shape), sample.is_right.reshape(shape)
    votes = np.arange(1, num_branches)
    needed = _needed_lead(profile, stop_gain, votes, num_branches - votes)
    # A lead of as many votes as branches are to come decides.
    needed = np.minimum(np.rint(needed), num_branches - votes)
    stops = np.ones((*lead.shape[:3], num_branches), dtype=bool)  # the last one for certain
    stops[..., :-1] = lead[..., 1:num_branches] >= needed
    at = stops.argmax(axis=-1) + 1
    weights = np.asarray(profile.weights)
    given = weights / np.maximum(weights.sum(axis=1), 1e-300)[:, None] / SAMPLES
    by_votes = (at[..., None] <= np.arange(num_branches + 1)).sum(axis=2)
    then = np.take_along_axis(is_right, at[..., None], axis=-1)[..., 0]
    worse = (is_right[..., num_branches].astype(np.float64) - then).sum(axis=2)
    return Stops(
        stopped=np.asarray(np.einsum("pt,ptn->pn", given, by_votes)),
        loss=np.asarray((given * worse).sum(axis=1)),
    )


def _needed_lead(
    profile: AnswerProfile, stop_gain: float, votes: NDArray[np.int64], to_come: NDArray[np.int64]
) -> FloatArray:
    """Smallest lead that stops, bilinear in the logarithms of votes and of branches to come."""
    table = _stop_table(profile, stop_gain)
    row, down = _position(np.log(VOTES), np.log(votes))
    column, right = _position(np.log(TO_COME), np.log(to_come))
    upper = table[row, column] * (1.0 - right) + table[row, column + 1] * right
    lower = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
    return np.asarray(upper * (1.0 - down) + lower * down)


def _position(grid: FloatArray, values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    left = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return left, (values - grid[left]) / (grid[left + 1] - grid[left])


@lru_cache(maxsize=64)
def _stop_table(profile: AnswerProfile, stop_gain: float) -> FloatArray:
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
