"""Fitting an `AnswerProfile` to recorded branches, shrunk toward a prior.

Theory of operation: types of problems come first (`mixture`), lengths follow given the types
(`lengths`). Each quantity is a mean over what was seen and over `prior_problems` further problems
that look like the prior, so that the prior rules few problems and fades with many; who ends first
has a weight of its own (`finish_order`). See `shrinkage` for where a prior comes from.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.finish_order import fit_early_correlation, fit_right_first
from scheduler.core.latency import FloatArray
from scheduler.core.lengths import fit_lengths
from scheduler.core.mixture import Mixture, fit_mixture
from scheduler.core.recorded import RecordedProblem

__all__ = ["RecordedProblem", "fit_answers"]

PRIOR_PROBLEMS = 1.5
"""Between what was best for few problems (3) and for many (1) in `tests/benchmarks/answers`."""


def fit_answers(
    recordings: Sequence[RecordedProblem],
    *,
    model: str,
    family: str,
    source: str,
    prior: AnswerProfile | None = None,
    prior_problems: float = PRIOR_PROBLEMS,
) -> AnswerProfile:
    """Fit difficulty, collisions of wrong answers, answer rates, lengths and who ends first.

    Args:
        source: Where the recordings come from, kept in the profile.
        prior: Shape to shrink toward, and its grids; the cold start by default.
        prior_problems: Weight of the prior, in problems.

    Raises:
        ValueError: There are no recordings.
    """
    if not recordings:
        raise ValueError("a fit needs at least one recorded problem")
    prior = prior or AnswerProfile.uninformed(model, family)
    mixture = fit_mixture(recordings, prior, prior_problems)
    lengths = fit_lengths(recordings, mixture, prior, prior_problems)
    rates = _answer_rates(recordings, mixture, prior, prior_problems)
    fitted = replace(
        prior,
        model=model,
        family=family,
        source=source,
        num_problems_seen=len(recordings),
        num_branches_seen=sum(len(r.tokens) for r in recordings),
        answer_rates=tuple(np.clip(rates, 0.0, 1.0).tolist()),
        weights=tuple(tuple(row) for row in mixture.weights.tolist()),
        right_first=fit_right_first(recordings, prior.right_first),
        **asdict(lengths),
    )
    return replace(fitted, early_correlation=fit_early_correlation(fitted, recordings))


def _answer_rates(
    recordings: Sequence[RecordedProblem],
    mixture: Mixture,
    prior: AnswerProfile,
    prior_problems: float,
) -> FloatArray:
    """P(answered | finished) of each difficulty, shrunk to that of all, itself to the prior's."""
    before = float(np.asarray(prior.weights).sum(axis=1) @ prior.answer_rates)
    finished = np.array([len(r.tokens) - sum(r.is_cut) for r in recordings])
    answered = np.array([sum(c is not None for c in r.votes) for r in recordings])
    ended = finished > 0
    rate = answered[ended] / finished[ended]
    overall = (rate.sum() + prior_problems * before) / (ended.sum() + prior_problems)
    seen = mixture.by_difficulty[ended]
    total = seen.T @ rate + prior_problems * overall
    return np.asarray(total / (seen.sum(axis=0) + prior_problems))
