"""Measuring the acceptance of drafts from traces, and whether it falls along a branch.

Theory of operation: position j was tried where position j - 1 was accepted. Counts are kept per
group of steps that are alike (a branch, or the steps of some seconds): their variance between
groups tells how many independent tries the count is worth, since acceptance differs between
problems far more than it would by chance. A decay along the branch is kept only if it raises the
likelihood of problems that it was not fitted to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from scheduler.core.latency import FloatArray
from scheduler.core.spread import Z95

FOLDS = 5
MAX_DECAY_PER_TOKEN = 0.01
"""Half of the acceptance lost within 70 tokens; a draft that bad is not worth a model."""


@dataclass(frozen=True, slots=True)
class DraftCounts:
    """Draft tokens verified and accepted per position, over steps that are alike."""

    drafted: tuple[int, ...]
    accepted: tuple[int, ...]

    @property
    def tried(self) -> tuple[int, ...]:
        """Drafts per position of which all earlier ones were accepted."""
        before = (self.drafted[:1] + self.accepted[:-1]) if self.drafted else ()
        # A draft cut short, at the end of a branch, tries fewer than were accepted before.
        return tuple(min(pair) for pair in zip(before, self.drafted, strict=True))


@dataclass(frozen=True, slots=True)
class MeasuredAcceptance:
    """Conditional acceptance per position and the independent tries that each is worth."""

    acceptance: tuple[float, ...]
    tries: tuple[float, ...]


def measure_acceptance(groups: Sequence[DraftCounts]) -> MeasuredAcceptance:
    """Acceptance over all groups; a position that nothing tried has probability 0 and no tries."""
    width = max((len(group.drafted) for group in groups), default=0)
    accepted = np.zeros((len(groups), width))
    tried = np.zeros((len(groups), width))
    for row, group in enumerate(groups):
        accepted[row, : len(group.accepted)] = group.accepted
        tried[row, : len(group.drafted)] = group.tried
    total = tried.sum(axis=0)
    rate = np.clip(accepted.sum(axis=0) / np.maximum(total, 1.0), 0.0, 1.0)
    return MeasuredAcceptance(
        tuple(rate.tolist()), tuple(_independent_tries(accepted, tried, rate).tolist())
    )


def fit_decay(
    branches: Sequence[Sequence[int]], acceptance: Sequence[float], draft_length: int
) -> float:
    """Rate per output token at which acceptance falls; 0 when held-out branches show none.

    Args:
        branches: Per branch the tokens that each of its steps yielded, bonus token included.
        acceptance: Conditional acceptance per position over all steps.
        draft_length: Draft length of all steps.
    """
    folds = [branches[i::FOLDS] for i in range(FOLDS) if branches[i::FOLDS]]
    gain = 0.0
    for i, held_out in enumerate(folds):
        known = [branch for j, fold in enumerate(folds) if j != i for branch in fold]
        decay, levels = _most_likely(known, acceptance, draft_length)
        _, flat = _scaled_levels(known, acceptance, draft_length, 0.0)
        gain += _log_likelihood(held_out, levels, draft_length, decay)
        gain -= _log_likelihood(held_out, flat, draft_length, 0.0)
    return _most_likely(branches, acceptance, draft_length)[0] if gain > 0 else 0.0


def _independent_tries(accepted: FloatArray, tried: FloatArray, rate: FloatArray) -> FloatArray:
    """Kish's effective sample size of a ratio over clusters, at most the tries themselves."""
    groups = (tried > 0).sum(axis=0)
    total = tried.sum(axis=0)
    squares = ((accepted - rate * tried) ** 2).sum(axis=0)
    variance = squares / np.maximum(total, 1.0) ** 2 * groups / np.maximum(groups - 1, 1)
    independent = np.where(variance > 0, rate * (1 - rate) / np.maximum(variance, 1e-300), total)
    # The variance is itself an estimate from few groups; one group says nothing about others.
    independent = independent * (Z95 / stdtrit(np.maximum(groups - 1, 1), 0.95)) ** 2
    return np.asarray(np.where(groups > 1, np.minimum(independent, total), np.minimum(total, 1.0)))


def _most_likely(
    branches: Sequence[Sequence[int]], acceptance: Sequence[float], draft_length: int
) -> tuple[float, FloatArray]:
    def cost(decay: float) -> float:
        return -_scaled_levels(branches, acceptance, draft_length, decay)[0]

    found = minimize_scalar(
        cost, bounds=(0.0, MAX_DECAY_PER_TOKEN), method="bounded", options={"xatol": 1e-7}
    )
    decay = float(found.x)
    return decay, _scaled_levels(branches, acceptance, draft_length, decay)[1]


def _scaled_levels(
    branches: Sequence[Sequence[int]],
    acceptance: Sequence[float],
    draft_length: int,
    decay: float,
) -> tuple[float, FloatArray]:
    """Log-likelihood, and the levels at the start that keep the mean acceptance as counted."""
    positions, yielded = _steps(branches)
    levels = []
    for j, rate in enumerate(acceptance[:draft_length], start=1):
        reached = yielded >= j
        kept = float(np.exp(-decay * positions[reached]).mean()) if reached.any() else 1.0
        levels.append(min(rate / max(kept, 1e-9), 1.0))
    found = np.array(levels)
    return _log_likelihood(branches, found, draft_length, decay), found


def _log_likelihood(
    branches: Sequence[Sequence[int]], levels: FloatArray, draft_length: int, decay: float
) -> float:
    positions, yielded = _steps(branches)
    total = 0.0
    for j in range(1, min(draft_length, len(levels)) + 1):
        reached = yielded >= j
        odds = np.clip(levels[j - 1] * np.exp(-decay * positions[reached]), 1e-9, 1 - 1e-9)
        total += float(np.where(yielded[reached] > j, np.log(odds), np.log1p(-odds)).sum())
    return total if math.isfinite(total) else -math.inf


def _steps(branches: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
    """Output position at which each step began, and the tokens that it yielded."""
    if not branches:
        return np.zeros(0), np.zeros(0)
    starts = [np.concatenate([[0], np.cumsum(branch)[:-1]]) for branch in branches if len(branch)]
    return np.concatenate(starts), np.concatenate(
        [np.asarray(branch, dtype=np.float64) for branch in branches if len(branch)]
    )
