"""Curves tabulated over the share of branches that vote, and how to read between their points."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scheduler.core.latency import FloatArray
from scheduler.core.votes import MAX_BRANCHES, binomial, right_table

SHARE_GRID: FloatArray = 0.5 - 0.5 * np.cos(np.pi * np.arange(65) / 64)
"""Shares in [0, 1] at which curves are tabulated, dense at both ends where they bend most."""


@lru_cache(maxsize=64)
def right_curves(
    difficulty: tuple[float, ...],
    concentrations: tuple[float, ...],
    weights: tuple[tuple[float, ...], ...],
    branches: tuple[int, ...],
    right_first: float = 0.5,
) -> FloatArray:
    """P(the plurality is right) by the share of branches that vote.

    Args:
        weights: Probability of each type; (difficulties, concentrations).
        right_first: As in `AnswerProfile`.

    Returns:
        (branches, difficulties, `SHARE_GRID`).

    Raises:
        ValueError: A width is not within 1 and `MAX_BRANCHES`.
    """
    if any(not 1 <= count <= MAX_BRANCHES for count in branches):
        raise ValueError(f"num_branches must be within 1 and {MAX_BRANCHES}, got {branches}")
    shares = np.asarray(weights)
    right = right_table(difficulty, concentrations, right_first)
    # A difficulty without weight is still read from, between its neighbors.
    shares = shares + 1e-9 * shares.sum(axis=0)
    by_votes = np.einsum("pt,ptv->pv", shares, right) / shares.sum(axis=1)[:, None]
    return np.asarray(np.einsum("bgv,pv->bpg", binomial(branches, SHARE_GRID), by_votes))


def interpolate_share(curves: FloatArray, share: FloatArray) -> FloatArray:
    """Linear interpolation of curves tabulated on `SHARE_GRID`.

    Args:
        curves: (branches, difficulties, grid).
        share: (difficulties, scales, points), within [0, 1].

    Returns:
        (branches, difficulties, scales, points).
    """
    left, part = _between(SHARE_GRID, share)
    row = np.arange(curves.shape[1])[:, None, None]
    return np.asarray(curves[:, row, left] * (1.0 - part) + curves[:, row, left + 1] * part)


def interpolate_type(
    curves: FloatArray, difficulty: ArrayLike, effective: FloatArray, share: FloatArray
) -> FloatArray:
    """Interpolation between difficulties and between shares.

    Args:
        curves: (branches, difficulties, grid).
        difficulty: Grid of the second axis of the curves.
        effective: Difficulties to read at; (difficulties, scales, points).
        share: Shares to read at, of the same shape.

    Returns:
        (branches, difficulties, scales, points).
    """
    row, down = _between(np.asarray(difficulty, dtype=np.float64), effective)
    left, part = _between(SHARE_GRID, share)
    upper = curves[:, row, left] * (1.0 - part) + curves[:, row, left + 1] * part
    lower = curves[:, row + 1, left] * (1.0 - part) + curves[:, row + 1, left + 1] * part
    return np.asarray(upper * (1.0 - down) + lower * down)


def _between(grid: FloatArray, values: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Index of the grid point on the left and the part of the way to the next one."""
    left = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return left, (values - grid[left]) / (grid[left + 1] - grid[left])
