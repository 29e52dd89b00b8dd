"""Fitting a `LatencyProfile` to measured steps, with an error on steps that it has not seen.

Theory of operation: every coefficient of the step time is a cost, so the fit is non-negative least
squares (Lawson and Hanson). Rows are divided by their measured time: the relative error is what
moves a finish. The held-out error leaves out whole groups in turn, by default every fifth count of
verified tokens, so that it tells how well sizes are predicted that were not measured. Knots of the
slope in verified tokens are kept only when they lower that error. Nothing depends on the order of
measuring.

A step time that was measured under load holds stalls by the prefills of other requests: a
measurement says how many prompt tokens were prefilled per step, and the fit has a term for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from scheduler.core.fit_answers import RecordedProblem, fit_answers
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.spread import run_sigma, variance_between

__all__ = [
    "PrefillMeasurement",
    "RecordedProblem",
    "StepMeasurement",
    "by_context",
    "by_verified_tokens",
    "fit_answers",
    "fit_latency",
    "held_out_error",
    "held_out_ratios",
    "with_runs",
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
        stall_tokens: Prompt tokens of other requests prefilled per step, whose time is in it.
    """

    rows: int
    num_speculative_tokens: int
    context_tokens: float
    step_time_s: float
    stall_tokens: float = 0.0


Grouping = Callable[[StepMeasurement], float]
"""Which measurements are left out together."""


def by_verified_tokens(step: StepMeasurement) -> int:
    """Measurements of the same verified tokens."""
    return step.rows * (step.num_speculative_tokens + 1)


def by_context(step: StepMeasurement) -> int:
    """Measurements of the same context per row."""
    return round(step.context_tokens / step.rows)


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
    acceptance_tries: Sequence[float] = (),
    token_knots: Sequence[float] | None = None,
) -> LatencyProfile:
    """Fit the coefficients of the step and prefill times.

    Args:
        prefills: Prefills measured alone; without any, stalls tell the time per prompt token.
        acceptance: Conditional acceptance per draft position, measured apart.
        acceptance_tries: Independent tries behind each.
        token_knots: Knots of the slope, the first 0; None lets the held-out error choose.

    Raises:
        ValueError: Fewer than three steps, or a time that is not positive.
    """
    if len(steps) < 3:
        raise ValueError(f"a fit needs at least 3 measured steps, got {len(steps)}")
    if any(step.step_time_s <= 0 for step in steps) or any(p.time_s <= 0 for p in prefills):
        raise ValueError("measured times must be positive seconds")
    steps = sorted(steps)
    knots = tuple(token_knots) if token_knots is not None else _choose_knots(steps)
    base_s, *slopes, context_s, draft_base_s, draft_row_s, stall_s = _solve(steps, knots)
    prefill_base_s, prefill_token_s = _fit_prefill(prefills) if prefills else (0.0, stall_s)
    residual_sigma, step_sigma = _spreads(steps, knots)
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
        prefill_base_s=float(prefill_base_s),
        prefill_token_s=float(prefill_token_s),
        residual_sigma=residual_sigma,
        step_sigma=step_sigma,
        acceptance=tuple(float(value) for value in acceptance),
        acceptance_tries=tuple(float(value) for value in acceptance_tries),
    )


def with_runs(profile: LatencyProfile, runs: Sequence[float]) -> LatencyProfile:
    """A freshly fitted profile, after runs showed how far they lie apart.

    Args:
        runs: Log of measured over predicted time of each run.
    """
    cells = max(profile.residual_sigma**2 - run_sigma(()) ** 2, 0.0)
    return replace(profile, residual_sigma=run_sigma(runs, cells))


def held_out_error(
    steps: Sequence[StepMeasurement],
    token_knots: Sequence[float] = (0.0,),
    by: Grouping = by_verified_tokens,
) -> float:
    """Mean absolute relative error on steps left out of the fit."""
    return float(np.mean(np.abs(1.0 - 1.0 / held_out_ratios(steps, token_knots, by))))


def held_out_ratios(
    steps: Sequence[StepMeasurement],
    token_knots: Sequence[float] = (0.0,),
    by: Grouping = by_verified_tokens,
) -> FloatArray:
    """Measured over predicted time of each step, predicted without every fifth group; (steps,)."""
    knots = tuple(token_knots)
    groups = [by(step) for step in steps]
    # Spread out in order of size, so that each part leaves out sizes all over the range.
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    num_parts = min(FOLDS, len(order))
    part = np.array([order[group] % num_parts for group in groups])
    ratios = np.empty(len(steps))
    for left_out in range(num_parts):
        known = [step for step, p in zip(steps, part, strict=True) if p != left_out]
        new = [step for step, p in zip(steps, part, strict=True) if p == left_out]
        predicted = _features(new, knots) @ _solve(known or new, knots)
        ratios[part == left_out] = [step.step_time_s for step in new] / np.maximum(predicted, 1e-9)
    return ratios


def _spreads(steps: Sequence[StepMeasurement], knots: tuple[float, ...]) -> tuple[float, float]:
    """Spread of a run and of a point: between cells alike in size or in context, and the rest."""
    errors = np.log(held_out_ratios(steps, knots)).tolist()
    sizes = [(step.rows, step.num_speculative_tokens) for step in steps]
    cells = variance_between(errors, sizes)
    cells += variance_between(errors, [by_context(step) for step in steps])
    total = float(np.mean(np.square(errors)))
    return run_sigma((), cells), float(np.sqrt(max(total - cells, 0.0)))


def _choose_knots(steps: Sequence[StepMeasurement]) -> tuple[float, ...]:
    tokens = np.unique([by_verified_tokens(step) for step in steps])
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
    stalls = np.array([step.stall_tokens for step in steps], dtype=np.float64)
    columns = [np.ones_like(rows), *segments, context, draft, draft * rows, stalls]
    return np.stack(columns, axis=1)


def _solve(steps: Sequence[StepMeasurement], knots: tuple[float, ...]) -> FloatArray:
    """Base, slopes, context, draft base, draft row, stall."""
    times = np.array([step.step_time_s for step in steps])
    design = _features(steps, knots) / times[:, None]
    # Unit columns: context coefficients are a million times smaller than the base.
    scale = np.maximum(np.abs(design).max(axis=0), 1e-300)
    solution, _ = nnls(design / scale, np.ones(len(steps)))
    return np.asarray(solution / scale)


def _fit_prefill(prefills: Sequence[PrefillMeasurement]) -> tuple[float, float]:
    times = np.array([p.time_s for p in prefills])
    tokens = np.array([float(p.prompt_tokens) for p in prefills])
    solution, _ = nnls(np.stack([1.0 / times, tokens / times], axis=1), np.ones(len(times)))
    return float(solution[0]), float(solution[1])
