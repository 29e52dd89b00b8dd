"""Fitting a `LatencyProfile` to measured steps, with an error on steps that it has not seen.

Theory of operation: every coefficient of the step time is a cost, so the fit is non-negative least
squares (Lawson and Hanson). Rows are divided by their measured time: the relative error is what
moves a finish. Knots of the slope in verified tokens are kept only when they lower the held-out
error. The held-out error leaves out every fifth measurement in turn, in an order that does not
depend on the order of measuring.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from scheduler.core.fit_answers import RecordedProblem, fit_answers
from scheduler.core.latency import FloatArray, LatencyProfile

__all__ = [
    "PrefillMeasurement",
    "RecordedProblem",
    "StepMeasurement",
    "fit_answers",
    "fit_latency",
    "held_out_error",
]

FOLDS = 5
KNOT_GAIN = 0.95
"""A knot must bring the held-out error below this share of the error without it."""
NEGLIGIBLE_ERROR = 1e-3
"""Below this relative error a fit needs no more knots: steps vary more from run to run."""


@dataclass(frozen=True, slots=True, order=True)
class StepMeasurement:
    """One measured step, or the mean of steps alike.

    Attributes:
        context_tokens: Tokens in the KV caches, total over all rows.
        step_time_s: Seconds of the step, drafting included.
    """

    rows: int
    num_speculative_tokens: int
    context_tokens: float
    step_time_s: float


@dataclass(frozen=True, slots=True)
class PrefillMeasurement:
    """One measured prefill of one prompt."""

    prompt_tokens: int
    time_s: float


def fit_latency(
    steps: Sequence[StepMeasurement],
    *,
    engine: str,
    model: str,
    device: str,
    method: str,
    measured_at: str,
    prefills: Sequence[PrefillMeasurement] = (),
    acceptance: Sequence[float] = (),
    token_knots: Sequence[float] | None = None,
) -> LatencyProfile:
    """Fit the coefficients of the step and prefill times.

    Args:
        acceptance: Conditional acceptance per draft position, measured apart.
        token_knots: Knots of the slope, the first 0; None lets the held-out error choose.

    Raises:
        ValueError: Fewer than three steps, or a time that is not positive.
    """
    if len(steps) < 3:
        raise ValueError(f"a fit needs at least 3 measured steps, got {len(steps)}")
    if any(step.step_time_s <= 0 for step in steps) or any(p.time_s <= 0 for p in prefills):
        raise ValueError("measured times must be positive seconds")
    knots = tuple(token_knots) if token_knots is not None else _choose_knots(steps)
    coefficients = _solve(steps, knots)
    base_s, *slopes = coefficients[: len(knots) + 1]
    context_s, draft_base_s, draft_row_s = coefficients[len(knots) + 1 :]
    prefill_base_s, prefill_token_s = _fit_prefill(prefills)
    residuals = np.log(_held_out_ratios(steps, knots))
    return LatencyProfile(
        engine=engine,
        model=model,
        device=device,
        method=method,
        measured_at=measured_at,
        # A step has some fixed time, even when the data put all of it on the tokens.
        base_s=max(float(base_s), 1e-9),
        token_knots=knots,
        token_slopes_s=tuple(float(slope) for slope in slopes),
        context_s=float(context_s),
        draft_base_s=float(draft_base_s),
        draft_row_s=float(draft_row_s),
        prefill_base_s=prefill_base_s,
        prefill_token_s=prefill_token_s,
        residual_sigma=float(np.sqrt(np.mean(residuals**2))),
        acceptance=tuple(float(value) for value in acceptance),
    )


def held_out_error(
    steps: Sequence[StepMeasurement], token_knots: Sequence[float] = (0.0,)
) -> float:
    """Mean absolute relative error on steps left out of the fit."""
    return float(np.mean(np.abs(1.0 - 1.0 / _held_out_ratios(steps, tuple(token_knots)))))


def _choose_knots(steps: Sequence[StepMeasurement]) -> tuple[float, ...]:
    tokens = np.unique([step.rows * (step.num_speculative_tokens + 1) for step in steps])
    # Each segment needs two distinct token counts of its own.
    options = tokens[2:-2] if len(steps) >= 2 * FOLDS else tokens[:0]
    if len(options) > 12:
        options = options[np.linspace(0, len(options) - 1, 12).astype(int)]
    knots: tuple[float, ...] = (0.0,)
    error = held_out_error(steps, knots)
    while len(knots) < 3 and error > NEGLIGIBLE_ERROR:
        trials = [tuple(sorted({*knots, float(option)})) for option in options]
        scored = [(held_out_error(steps, t), t) for t in trials if len(t) > len(knots)]
        if not scored or min(scored)[0] > KNOT_GAIN * error:
            break
        error, knots = min(scored)
    return knots


def _features(steps: Sequence[StepMeasurement], knots: tuple[float, ...]) -> FloatArray:
    rows = np.array([step.rows for step in steps], dtype=np.float64)
    draft = np.array([step.num_speculative_tokens for step in steps], dtype=np.float64)
    context = np.array([step.context_tokens for step in steps], dtype=np.float64)
    tokens = rows * (draft + 1)
    ends = (*knots[1:], np.inf)
    segments = [np.clip(tokens - a, 0.0, b - a) for a, b in zip(knots, ends, strict=True)]
    return np.stack([np.ones_like(rows), *segments, context, draft, draft * rows], axis=1)


def _solve(steps: Sequence[StepMeasurement], knots: tuple[float, ...]) -> FloatArray:
    """Base, slopes, context, draft base, draft row."""
    times = np.array([step.step_time_s for step in steps])
    design = _features(steps, knots) / times[:, None]
    # Unit columns: context coefficients are a million times smaller than the base.
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    solution, _ = nnls(design / scale, np.ones(len(steps)))
    return np.asarray(solution / scale)


def _held_out_ratios(steps: Sequence[StepMeasurement], knots: tuple[float, ...]) -> FloatArray:
    """Measured over predicted time of each step, predicted without it."""
    ordered = sorted(steps)
    fold = np.arange(len(ordered)) % min(FOLDS, len(ordered))
    ratios = np.empty(len(ordered))
    for held_out in range(int(fold.max()) + 1):
        known = [step for step, f in zip(ordered, fold, strict=True) if f != held_out]
        new = [step for step, f in zip(ordered, fold, strict=True) if f == held_out]
        predicted = _features(new, knots) @ _solve(known, knots)
        ratios[fold == held_out] = [step.step_time_s for step in new] / np.maximum(predicted, 1e-9)
    return ratios


def _fit_prefill(prefills: Sequence[PrefillMeasurement]) -> tuple[float, float]:
    if not prefills:
        return 0.0, 0.0
    times = np.array([p.time_s for p in prefills])
    tokens = np.array([float(p.prompt_tokens) for p in prefills])
    solution, _ = nnls(np.stack([1.0 / times, tokens / times], axis=1), np.ones(len(times)))
    return float(solution[0]), float(solution[1])
