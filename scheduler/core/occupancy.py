"""How long branches hold rows and how long problems last, by width and cap.

Theory of operation: the B branches of a problem start together. Given the share u of such branches
that end within x tokens, the number ended by x is Binomial(B, u), and the problem has stopped with
the odds D_B(n) of `early_stops`, which frees the rows of the branches still running. So

    P(problem lasts longer than x)   = sum over n < B of Binomial(n; B, u) * (1 - D_B(n))
    P(branch holds its row after x)  = the same sum with the factor 1 - n / B

depend on x through u alone. They are tabulated over u per difficulty, mixed over types of problems
and integrated over x once per profile; a cap ends everything at the cap. All is in tokens: seconds
come in only with an engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.curves import SHARE_GRID, interpolate_share
from scheduler.core.early_stops import Stops, stops_of
from scheduler.core.latency import FloatArray
from scheduler.core.votes import binomial

GRID_POINTS = 96


@dataclass(frozen=True, eq=False, slots=True)
class Occupancy:
    """Tables over width and tokens; `tokens` is the cap or the age, ascending from 0.

    Attributes:
        branches: Widths, the first axis of all tables.
        tokens: Second axis of all tables.
        accuracy: Expected accuracy when this is the cap.
        work: Mean row-tokens of a problem when this is the cap.
        work_variance: Variance of the same over problems.
        age: Mean age in tokens of a row that is busy at a random moment, which equals its mean
            remaining tokens, when this is the cap.
        lasts: P(problem lasts longer than this), before any cap.
        duration: Integral of `lasts` up to this: the mean tokens that a problem lasts under a cap.
        relative_spread: Spread of the work of one problem relative to its mean, at the last cap,
            narrowest width: how little a profile learned from few problems knows.
    """

    branches: tuple[int, ...]
    tokens: FloatArray
    accuracy: FloatArray
    work: FloatArray
    work_variance: FloatArray
    age: FloatArray
    lasts: FloatArray
    duration: FloatArray
    relative_spread: float

    def tokens_when_lasts(self, odds: FloatArray) -> FloatArray:
        """Tokens after which a problem is still open with these odds.

        Args:
            odds: (..., 1 or branches, points), to (..., branches, points).
        """
        return self._tokens_at(-self.lasts, -odds)

    def tokens_when_duration(self, duration: FloatArray) -> FloatArray:
        """Inverse of `duration`; (..., branches, points) to the same shape."""
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
        return np.asarray(flat.reshape(shifted.shape))


@dataclass(frozen=True, eq=False, slots=True)
class Capped:
    """Tables of an `Occupancy` at given caps; (branches, caps)."""

    accuracy: FloatArray
    work: FloatArray
    work_variance: FloatArray
    age: FloatArray
    duration: FloatArray


@lru_cache(maxsize=256)
def occupancy_of(
    profile: AnswerProfile, branches: tuple[int, ...], stop_gain: float = 0.0
) -> Occupancy:
    """Tabulate a profile for these widths and plans of this stop gain."""
    stops = [stops_of(profile, width, stop_gain) for width in branches]
    tokens = _token_grid(profile)
    ended = profile.finished_share_by_type(tokens)  # (difficulties, scales, tokens)
    holds_curves, lasts_curves = _survival_curves(branches, stops)
    holds = interpolate_share(holds_curves, ended)  # (branches, difficulties, scales, tokens)
    lasts = interpolate_share(lasts_curves, ended)
    weights = np.asarray(profile.weights).sum(axis=1) / ended.shape[1]
    width = np.asarray(branches, dtype=np.float64)[:, None]

    mean = _integrate(holds, tokens)
    square = _integrate(2.0 * tokens * holds, tokens)
    work = width * _mix(weights, mean)
    # Branches of one problem count as independent given its type; types differ far more.
    within = width * _mix(weights, np.maximum(square - mean**2, 0.0))
    between = width**2 * _mix(weights, mean**2) - work**2
    work_variance = within + np.maximum(between, 0.0)
    lasts_mixed = _mix(weights, lasts)
    # What a stop costs is sampled; chance is not to promise that it gains.
    lost = np.maximum([stop.loss @ np.asarray(profile.weights).sum(axis=1) for stop in stops], 0.0)
    return Occupancy(
        branches=branches,
        tokens=tokens,
        accuracy=profile.accuracy_grid(branches, tokens)
        - lost[:, None] * profile.finished_share(tokens),
        work=work,
        work_variance=work_variance,
        age=_mix(weights, square) / (2.0 * np.maximum(_mix(weights, mean), 1e-9)),
        lasts=lasts_mixed,
        duration=_integrate(lasts_mixed, tokens),
        relative_spread=float(np.sqrt(work_variance[0, -1]) / work[0, -1]),
    )


@lru_cache(maxsize=256)
def capped(
    profile: AnswerProfile,
    branches: tuple[int, ...],
    caps: tuple[float, ...],
    stop_gain: float = 0.0,
) -> Capped:
    """Interpolate the tables of a profile at these caps; jobs of one model share them."""
    table = occupancy_of(profile, branches, stop_gain)
    tokens = table.tokens
    left = np.clip(np.searchsorted(tokens, caps, side="right") - 1, 0, len(tokens) - 2)
    part = np.clip((np.asarray(caps) - tokens[left]) / (tokens[left + 1] - tokens[left]), 0.0, 1.0)

    def read(values: FloatArray) -> FloatArray:
        return np.asarray(values[:, left] * (1.0 - part) + values[:, left + 1] * part)

    return Capped(
        accuracy=read(table.accuracy),
        work=np.maximum(read(table.work), 1e-9),
        work_variance=read(table.work_variance),
        age=read(table.age),
        duration=read(table.duration),
    )


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
