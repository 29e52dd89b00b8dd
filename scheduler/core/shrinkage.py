"""Where a fit's prior comes from: what other task families and other models taught.

Theory of operation: knowledge is a chain, each link shrunk toward the one before it: the cold
start; every other model and family; this family as other models do it; then the family itself. A
link is a mean over groups, one per model and family, in which a group with n problems counts
n / (n + `HALF_PROBLEMS`), so that a group weighs more the more of it was seen and none weighs more
than one; what comes before counts as `BASE_GROUPS` groups. Weights and rates are averaged as they
are, lengths as logs. A mean of models of very different length is a poor guess of a level, which
`lengths` therefore hardly believes. The other families of the same model are no link of their own:
on recordings a model's families differed more than models did on all families (`tests/benchmarks`,
`answers`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.finish_order import stepped
from scheduler.core.fit_answers import PRIOR_PROBLEMS
from scheduler.core.latency import FloatArray

ANY_FAMILY = "any"
"""The family of a job that names none: such jobs of different models have nothing in common."""
FAMILY_PROBLEMS = 4.0
"""Weight of a prior that knows the family from other models, as measured."""
GIVEN_PROBLEMS = 20.0
"""Weight of a profile that an operator gave: meant for this model, perhaps for other problems."""
HALF_PROBLEMS = 10.0
BASE_GROUPS = 0.5
NAMED = 3
"""Groups named in the source of a mean."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What to expect of a model on a family before a problem of it was seen.

    Attributes:
        problems: Problems that the profile counts for in a fit.
    """

    profile: AnswerProfile
    problems: float


def prior_of(
    model: str,
    family: str,
    learned: Iterable[AnswerProfile],
    given: AnswerProfile | None = None,
) -> Prior:
    """The prior of a fit.

    Args:
        learned: Profiles learned so far, in any order; one of this model and family is left out.
        given: A profile that its operator gave a worker of this model.
    """
    if given is not None and given.num_problems_seen > 0:
        return Prior(given, min(GIVEN_PROBLEMS, float(given.num_problems_seen)))
    others = sorted(
        (p for p in learned if (p.model, p.family) != (model, family)),
        key=lambda profile: (profile.model, profile.family),
    )
    same_family = [p for p in others if p.family == family != ANY_FAMILY]
    everything = pooled(others, AnswerProfile.uninformed(model, family))
    profile = pooled(same_family, everything)
    return Prior(profile, FAMILY_PROBLEMS if same_family else PRIOR_PROBLEMS)


@lru_cache(maxsize=256)
def expected_answers(
    model: str, family: str, learned: tuple[AnswerProfile, ...]
) -> AnswerProfile | None:
    """What was learned of a model on a family, else what the others suggest.

    Returns:
        None when nothing was learned at all: the worker's own profile says as much.
    """
    found = next((p for p in learned if (p.model, p.family) == (model, family)), None)
    if found is not None or not learned:
        return found
    return prior_of(model, family, learned).profile


def best_known(given: AnswerProfile, learned: AnswerProfile | None) -> AnswerProfile:
    """The profile to plan with: what was learned, unless only the given one saw the model."""
    if learned is None or learned.num_problems_seen == 0 < given.num_problems_seen:
        return given
    return learned


def pooled(groups: Sequence[AnswerProfile], base: AnswerProfile) -> AnswerProfile:
    """Mean of profiles, shrunk toward a base; those on other grids are left out."""
    groups = [group for group in groups if _grids(group) == _grids(base)]
    counts = np.array([BASE_GROUPS, *(group_weight(g.num_problems_seen) for g in groups)])
    if counts[1:].sum() == 0.0:
        return base
    shares = counts / counts.sum()
    members = (base, *groups)

    def mean(values: Iterable[ArrayLike]) -> FloatArray:
        return np.asarray(np.tensordot(shares, np.stack([np.asarray(v) for v in values]), axes=1))

    def log_mean(values: Iterable[ArrayLike]) -> FloatArray:
        return np.asarray(np.exp(mean(np.log(np.maximum(v, 1e-9)) for v in values)))

    weights = mean(m.weights for m in members)
    names = ", ".join(f"{group.model} on {group.family}" for group in groups[:NAMED])
    more = f" and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    return replace(
        base,
        source=f"no branch of this model on this family was seen: a mean of {names}{more}",
        length_quantiles=tuple(log_mean(m.length_quantiles for m in members).tolist()),
        length_scales=_rows(log_mean(m.length_scales for m in members)),
        length_spreads=_rows(log_mean(m.length_spreads for m in members)),
        upper_spreads=_rows(log_mean(m.upper_spreads for m in members)),
        wrong_length_ratio=float(log_mean(m.wrong_length_ratio for m in members)),
        answer_rates=tuple(mean(m.answer_rates for m in members).tolist()),
        right_first=stepped(float(mean(m.right_first for m in members))),
        weights=_rows(weights / weights.sum()),
    )


def group_weight(num_problems: int) -> float:
    """Weight of a group in a mean of groups, from 0 to 1."""
    return num_problems / (num_problems + HALF_PROBLEMS)


def _grids(profile: AnswerProfile) -> tuple[object, ...]:
    return (
        profile.difficulty,
        profile.concentrations,
        len(profile.length_quantiles),
        len(profile.length_scales[0]),
    )


def _rows(table: FloatArray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())
