"""A sample of problems of every type, with their branches, drawn once with a constant seed."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.votes import MAX_BRANCHES

SEED = 20250519
SAMPLES = 32
"""Problems per type: of 150 types together they leave an error of half a percent of the work."""
NEGLIGIBLE = 1e-7
"""Types of problems less likely than this are left out."""
TINY = 1e-12


@dataclass(frozen=True, eq=False, slots=True)
class Tally:
    """The vote after each of its votes.

    Attributes:
        lead: Votes by which the leader is ahead of every other class, less one where that class
            came first; (problems, votes from 0).
        is_right: Whether the leader is right.
    """

    lead: NDArray[np.int64]
    is_right: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class SampledProblems:
    """Problems with the branches of a profile; those of negligible weight are left out.

    Attributes:
        weight: Probability of each, adding up to 1.
        classes: Answers of branches, 0 being right; (problems, branches).
        tokens: Lengths of the branches.
        is_answered: Whether they give their answers.
    """

    weight: FloatArray
    classes: NDArray[np.int16]
    tokens: FloatArray
    is_answered: NDArray[np.bool_]


@lru_cache(maxsize=16)
def sampled_problems(profile: AnswerProfile) -> SampledProblems:
    """The sample of a profile: the same problem has the same votes in every profile."""
    classes = _sampled_classes(profile.difficulty, profile.concentrations)
    weights = np.repeat(np.asarray(profile.weights).ravel() / SAMPLES, SAMPLES)
    used = np.flatnonzero(weights > NEGLIGIBLE / SAMPLES)
    difficulty = used // (len(profile.concentrations) * SAMPLES)
    kind = used % SAMPLES % len(profile.length_scales[0])
    draws, answers = np.random.default_rng(SEED).random((2, *classes.shape))[:, used]
    is_answered = answers < np.asarray(profile.answer_rates)[difficulty, None]
    classes = classes[used]
    is_wrong = ~is_answered | (classes > 0)
    return SampledProblems(
        weight=weights[used] / weights[used].sum(),
        classes=classes,
        tokens=_lengths(profile, draws, is_wrong, (difficulty, kind)),
        is_answered=is_answered,
    )


def tally(classes: NDArray[np.int16]) -> Tally:
    """Count votes in the order given.

    Args:
        classes: (problems, votes); of a branch without an answer -1.
    """
    num_problems, num_votes = classes.shape
    every = np.arange(num_problems)
    # In the last column branches without an answer are counted, in vain.
    counts = np.zeros((num_problems, int(classes.max(initial=0)) + 2), dtype=np.int16)
    first = np.full_like(counts, num_votes)
    lead = np.zeros((num_problems, num_votes + 1), dtype=np.int64)
    is_right = np.zeros(lead.shape, dtype=bool)
    for vote in range(num_votes):
        chosen = classes[:, vote]
        counts[every, chosen] += 1
        counts[:, -1] = 0
        first[every, chosen] = np.minimum(first[every, chosen], vote)
        leader = (counts * np.int32(num_votes + 1) - first).argmax(axis=1)
        # A rival that came first wins ties, which is as good as one vote more.
        rivals = counts + ((first < first[every, leader][:, None]) & (counts > 0))
        own = counts[every, leader]
        rivals[every, leader] = 0
        lead[:, vote + 1] = own - rivals.max(axis=1)
        is_right[:, vote + 1] = (leader == 0) & (own > 0)
    return Tally(lead, is_right)


@lru_cache(maxsize=4)
def sampled_tally(difficulty: tuple[float, ...], concentrations: tuple[float, ...]) -> Tally:
    """Votes of as many problems of every type, all branches giving an answer."""
    return tally(_sampled_classes(difficulty, concentrations))


@lru_cache(maxsize=4)
def _sampled_classes(
    difficulty: tuple[float, ...], concentrations: tuple[float, ...]
) -> NDArray[np.int16]:
    """Votes of problems of every type, as many of each; (problems, votes)."""
    rng = np.random.default_rng(SEED)
    shape = (len(difficulty), len(concentrations), SAMPLES)
    every = np.arange(math.prod(shape))
    p = np.broadcast_to(np.asarray(difficulty)[:, None, None], shape).ravel()
    theta = np.broadcast_to(np.asarray(concentrations)[None, :, None], shape).ravel()
    right_draws, wrong_draws = rng.random((2, MAX_BRANCHES, len(every)))

    classes = np.zeros((len(every), MAX_BRANCHES), dtype=np.int16)
    wrong_votes = np.zeros_like(classes)  # their classes, in order
    num_wrong, num_classes = np.zeros((2, len(every)), dtype=np.int64)
    for vote in range(MAX_BRANCHES):
        says_right = right_draws[vote] < p
        place = wrong_draws[vote] * (num_wrong + theta)
        repeats = place < num_wrong
        index = np.where(repeats, place, 0.0).astype(np.int64)
        chosen = np.where(repeats, wrong_votes[every, index], num_classes + 1)
        num_classes += ~says_right & ~repeats
        wrong_votes[every, num_wrong] = chosen
        num_wrong += ~says_right
        classes[:, vote] = np.where(says_right, 0, chosen)
    return classes


def _lengths(
    profile: AnswerProfile,
    draws: FloatArray,
    is_wrong: NDArray[np.bool_],
    types: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> FloatArray:
    """Completion tokens of branches; (problems, branches).

    Args:
        draws: Places within the lengths of their problems, from 0 to 1.
        types: Difficulty and kind of lengths of each problem, as positions.
    """
    median = float(np.median(profile.length_quantiles))
    probabilities = np.linspace(0.0, 1.0, len(profile.length_quantiles))
    relative = np.maximum(np.interp(draws, probabilities, profile.length_quantiles), TINY) / median
    lower, upper, scale = (
        np.asarray(table)[types][:, None]
        for table in (profile.length_spreads, profile.upper_spreads, profile.length_scales)
    )
    p = np.asarray(profile.difficulty)[types[0], None]
    slower = profile.wrong_length_ratio ** np.where(is_wrong, p, p - 1.0)
    spread = np.where(relative < 1.0, lower, upper)
    return np.asarray(scale * median * relative**spread * slower)
