"""How long branches hold rows and how long problems last, by width and cap.

Theory of operation: the B branches of a problem start together. Given the share u of such branches
that end within x tokens, the number ended by x is Binomial(B, u), and the problem has stopped with
the odds D_B(n) of `early_stops`, which frees the rows of the branches still running. So

    P(problem lasts longer than x)   = sum over n < B of Binomial(n; B, u) * (1 - D_B(n))
    P(branch holds its row after x)  = the same sum with the factor 1 - n / B

depend on x through u alone. They are tabulated over u per difficulty, mixed over types of problems
and integrated over x once per profile; a cap ends everything at the cap. All is in tokens: seconds
come in only with an engine. Widths of successive branches are sampled instead (`successive`), over
horizons that are `Width.rounds` times as long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.curves import SHARE_GRID, interpolate_share
from scheduler.core.early_stops import Stops, stops_of
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Width
from scheduler.core.successive import Course, course_of
from scheduler.core.votes import binomial

GRID_POINTS = 96


@dataclass(frozen=True, eq=False, slots=True)
class Occupancy:
    """Tables over width and tokens; `tokens` is the cap or the age, ascending from 0.

    Where branches are successive, tables are over `Width.rounds` times as many tokens of a row.

    Attributes:
        widths: First axis of all tables, successive ones last.
        tokens: Second axis of all tables.
        accuracy: Expected accuracy when this is the cap.
        answered: Expected share of problems with a vote then; of successive widths of those that
            their first branches answer.
        work: Mean row-tokens of a problem when this is the cap.
        work_variance: Variance of the same over problems.
        age: Mean age in tokens of a row that is busy at a random moment, which equals its mean
            remaining tokens, when this is the cap.
        context: Tokens that its branch has decoded then; as many where it has one branch only.
        lasts: P(problem lasts longer than this), before any cap.
        duration: Integral of `lasts` up to this: the mean tokens that a problem lasts under a cap.
        relative_spread: Spread of the work of one problem relative to its mean, at the last cap,
            narrowest width: how little a profile learned from few problems knows.
    """

    widths: tuple[Width, ...]
    tokens: FloatArray
    accuracy: FloatArray
    answered: FloatArray
    work: FloatArray
    work_variance: FloatArray
    age: FloatArray
    context: FloatArray
    lasts: FloatArray
    duration: FloatArray
    relative_spread: float

    @property
    def rounds(self) -> FloatArray:
        """Tokens of a row over `tokens`; (widths, 1)."""
        return np.array([[width.rounds] for width in self.widths])

    def tokens_when_lasts(self, odds: FloatArray) -> FloatArray:
        """Tokens after which a problem is still open with these odds.

        Args:
            odds: (..., 1 or widths, points), to (..., widths, points).
        """
        return self._tokens_at(-self.lasts, -odds)

    def tokens_when_duration(self, duration: FloatArray) -> FloatArray:
        """Inverse of `duration`; (..., widths, points) to the same shape."""
        total = self.duration[:, -1:]
        return self._tokens_at(self.duration / total - 1.0, duration / total - 1.0)

    def _tokens_at(self, ascending: FloatArray, values: FloatArray) -> FloatArray:
        """Tokens at which each width's ascending function within [-1, 0] reaches its values."""
        # One flat interpolation: widths are shifted apart, so that all of them together ascend.
        shift = 2.0 * np.arange(len(ascending))[:, None]
        shifted = values + shift
        flat = np.interp(
            shifted.ravel(), (ascending + shift).ravel(), np.tile(self.tokens, len(ascending))
        )
        return np.asarray(flat.reshape(shifted.shape) * self.rounds)


def occupancy_of(
    profile: AnswerProfile, widths: tuple[Width, ...], cut: float = math.inf
) -> Occupancy:
    """Tabulate a profile for these widths, successive ones last.

    Args:
        cut: As `cut_tokens` tells; branches that start all at once are cut by their caps only.
    """
    is_successive = bool(widths) and widths[-1].is_successive
    return _tabulate(profile, widths, cut if is_successive else math.inf)


@lru_cache(maxsize=256)
def _tabulate(profile: AnswerProfile, widths: tuple[Width, ...], cut: float) -> Occupancy:
    tokens = _token_grid(profile)
    at_once = tuple(width for width in widths if not width.is_successive)
    parts = [_at_once(profile, at_once)] if at_once else []
    # What a branch has decoded at a random moment, wherever in line it stands.
    running = (1.0 - profile.finished_share(tokens)) * (tokens <= cut)
    context = float(np.trapezoid(tokens * running, tokens) / np.trapezoid(running, tokens))
    for width in widths[len(at_once) :]:
        horizons = width.rounds * tokens
        course = course_of(profile, width, tuple(horizons.tolist()), cut)
        answered = profile.answered_grid((width.num_branches,), np.minimum(horizons, cut))[0]
        parts.append(_in_turn(course, answered, np.minimum(context, horizons), horizons))
    tables = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    variance, work = tables["work_variance"][0, -1], tables["work"][0, -1]
    return Occupancy(
        widths=widths, tokens=tokens, relative_spread=float(np.sqrt(variance) / work), **tables
    )


@lru_cache(maxsize=256)
def _at_once(profile: AnswerProfile, widths: tuple[Width, ...]) -> dict[str, FloatArray]:
    """Tables of widths whose branches all start at once, whatever cuts those of others."""
    tokens = _token_grid(profile)
    branches = tuple(width.num_branches for width in widths)
    stops = [stops_of(profile, width.num_branches, width.stop_gain) for width in widths]
    ended = profile.finished_share_by_type(tokens)  # (difficulties, scales, tokens)
    holds_curves, lasts_curves = _survival_curves(branches, stops)
    holds = interpolate_share(holds_curves, ended)  # (widths, difficulties, scales, tokens)
    lasts = interpolate_share(lasts_curves, ended)
    weights = np.asarray(profile.weights).sum(axis=1) / ended.shape[1]
    number = np.asarray(branches, dtype=np.float64)[:, None]

    mean = _integrate(holds, tokens)
    square = _integrate(2.0 * tokens * holds, tokens)
    work = number * _mix(weights, mean)
    # Branches of one problem count as independent given its type; types differ far more.
    within = number * _mix(weights, np.maximum(square - mean**2, 0.0))
    between = number**2 * _mix(weights, mean**2) - work**2
    lasts_mixed = _mix(weights, lasts)
    # What a stop costs is sampled; chance is not to promise that it gains.
    lost = np.maximum([stop.loss @ np.asarray(profile.weights).sum(axis=1) for stop in stops], 0.0)
    age = _mix(weights, square) / (2.0 * np.maximum(_mix(weights, mean), 1e-9))
    return {
        "accuracy": profile.accuracy_grid(branches, tokens)
        - lost[:, None] * profile.finished_share(tokens),
        "answered": profile.answered_grid(branches, tokens),
        "work": work,
        "work_variance": within + np.maximum(between, 0.0),
        "age": age,
        "context": age,
        "lasts": lasts_mixed,
        "duration": _integrate(lasts_mixed, tokens),
    }


def _in_turn(
    course: Course, answered: FloatArray, context: FloatArray, horizons: FloatArray
) -> dict[str, FloatArray]:
    """Tables of one successive width."""
    age = _integrate(horizons * course.busy, horizons)
    age /= np.maximum(_integrate(course.busy, horizons), 1e-9)
    tables = {
        "accuracy": course.accuracy,
        "answered": answered,
        "work": course.work,
        "work_variance": course.work_variance,
        "age": age,
        "context": np.minimum(context, age),
        "lasts": course.lasts,
        "duration": course.duration,
    }
    return {name: values[None] for name, values in tables.items()}


def _token_grid(profile: AnswerProfile) -> FloatArray:
    shares = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0.0, 1.0, GRID_POINTS))
    quantiles = profile.length_quantile(shares)
    evenly = np.linspace(0.0, float(quantiles[-1]), GRID_POINTS // 3)
    return np.asarray(np.unique(np.concatenate([[0.0], quantiles, evenly])))


def _survival_curves(
    branches: tuple[int, ...], stops: Sequence[Stops]
) -> tuple[FloatArray, FloatArray]:
    """P(row held) and P(problem open) over the ended share; (branches, difficulties, grid)."""
    odds = binomial(branches, SHARE_GRID)  # (branches, grid, ended)
    open_odds = np.zeros((len(branches), len(stops[0].loss), odds.shape[2]))
    for row, width in enumerate(branches):
        open_odds[row, :, : width + 1] = 1.0 - stops[row].stopped
    ended = np.arange(odds.shape[2], dtype=np.float64)
    running = np.maximum(1.0 - ended / np.asarray(branches, dtype=np.float64)[:, None], 0.0)
    holds = np.einsum("bgn,bpn,bn->bpg", odds, open_odds, running)
    lasts = np.einsum("bgn,bpn->bpg", odds, open_odds)
    return holds, lasts


def _mix(weights: FloatArray, by_type: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("p,bpsx->bx", weights, by_type))


def _integrate(values: FloatArray, tokens: FloatArray) -> FloatArray:
    """Cumulative trapezoid over the last axis, 0 at the start."""
    steps = 0.5 * (values[..., 1:] + values[..., :-1]) * np.diff(tokens)
    start = np.zeros((*values.shape[:-1], 1))
    return np.asarray(np.concatenate([start, steps.cumsum(axis=-1)], axis=-1))
