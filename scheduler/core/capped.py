"""The tables of `occupancy` at the caps of plans."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import FloatArray
from scheduler.core.occupancy import occupancy_of
from scheduler.core.plan import Plan, Width
from scheduler.core.successive import cut_tokens


@dataclass(frozen=True, eq=False, slots=True)
class Capped:
    """Tables of an `Occupancy` at given caps; (widths, caps)."""

    accuracy: FloatArray
    answered: FloatArray
    work: FloatArray
    work_variance: FloatArray
    age: FloatArray
    context: FloatArray
    duration: FloatArray


@lru_cache(maxsize=256)
def capped(
    profile: AnswerProfile,
    widths: tuple[Width, ...],
    caps: tuple[float, ...],
    cut: float = math.inf,
) -> Capped:
    """Interpolate the tables of a profile at these caps; jobs of one model share them.

    Args:
        cut: As in `occupancy_of`.
    """
    table = occupancy_of(profile, widths, cut)
    tokens = table.tokens
    left = np.clip(np.searchsorted(tokens, caps, side="right") - 1, 0, len(tokens) - 2)
    part = np.clip((np.asarray(caps) - tokens[left]) / (tokens[left + 1] - tokens[left]), 0.0, 1.0)

    def read(values: FloatArray) -> FloatArray:
        return np.asarray(values[:, left] * (1.0 - part) + values[:, left + 1] * part)

    return Capped(
        accuracy=read(table.accuracy),
        answered=read(table.answered),
        work=np.maximum(read(table.work), 1e-9),
        work_variance=read(table.work_variance),
        age=read(table.age),
        context=read(table.context),
        duration=read(table.duration),
    )


def whole_branch(profile: AnswerProfile, bound: float) -> tuple[float, float]:
    """Mean tokens of a branch that only the engines cut, and of one that runs at a random moment.

    Args:
        bound: Tokens at which the engines cut; few long branches would make both endless.
    """
    at_bound = capped(profile, (Width(1),), (bound,))
    return at_bound.work.item(), at_bound.context.item()


def capped_by(profile: AnswerProfile, plan: Plan) -> Capped:
    """The tables at the one cap of a plan."""
    cap = float(plan.max_tokens)
    return capped(profile, (plan.width,), (cap,), cut_tokens(profile, cap))
