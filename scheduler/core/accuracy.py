"""What a model's branches look like: how long they run and how often they are right.

Theory of operation: a problem has a latent type. Its *difficulty* is the probability that a branch
that gave an answer gave the right one; its *concentration* theta says how its wrong answers
collide: they are drawn like a Chinese restaurant process, so a new wrong answer repeats one of n
earlier wrong ones with probability n / (n + theta). Small theta is a problem with one popular wrong
answer, which more branches entrench. `weights` is the joint mixture over both. A problem also has a
length scale (hard ones run longer, and problems differ at equal difficulty), which multiplies the
length distribution within a problem.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from scheduler.core.latency import FloatArray
from scheduler.core.votes import MAX_BRANCHES, binomial, decided, vote_table


@dataclass(frozen=True, slots=True)
class AnswerProfile:
    """Learned lengths and accuracy of one model on one family of tasks.

    Attributes:
        family: Task family or data set that the numbers describe.
        source: Where they come from, in words.
        num_problems_seen: Problems behind the fit, 0 for the cold start.
        num_branches_seen: Branches behind the fit, 0 for the cold start.
        length_quantiles: Completion tokens of a branch of a problem with scale 1, at evenly spaced
            probabilities from 0 to 1.
        problem_scales: Length scale of a problem relative to others of its difficulty: equally
            likely values.
        difficulty: Grid of P(right | answered), ascending.
        length_scales: Mean length scale of problems of each difficulty.
        answer_rates: P(answered | finished) of each difficulty.
        concentrations: Grid of theta, ascending.
        weights: Probability of each type, one row per difficulty, one column per concentration.
        early_correlation: How much the votes of the branches that end first repeat each other, 0 as
            independent votes do, 1 as one vote would; see `posterior`. The default is the middle:
            not known.
    """

    model: str
    family: str
    source: str
    num_problems_seen: int
    num_branches_seen: int
    length_quantiles: tuple[float, ...]
    problem_scales: tuple[float, ...]
    difficulty: tuple[float, ...]
    length_scales: tuple[float, ...]
    answer_rates: tuple[float, ...]
    concentrations: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    early_correlation: float = 0.5

    def __post_init__(self) -> None:
        size = len(self.difficulty)
        if len(self.length_quantiles) < 2 or list(self.length_quantiles) != sorted(
            self.length_quantiles
        ):
            raise ValueError("length_quantiles must be at least two ascending token counts")
        if self.length_quantiles[0] < 0 or self.length_quantiles[-1] <= 0:
            raise ValueError("length_quantiles must be positive token counts")
        if not self.problem_scales or any(s <= 0 for s in self.problem_scales):
            raise ValueError("problem_scales must be positive")
        if not size or len(self.length_scales) != size or len(self.answer_rates) != size:
            raise ValueError("difficulty, length_scales and answer_rates must be equally long")
        if any(scale <= 0 for scale in self.length_scales):
            raise ValueError("length_scales must be positive")
        if any(not 0 <= p <= 1 for p in (*self.difficulty, *self.answer_rates)):
            raise ValueError("difficulty and answer_rates must be probabilities")
        if not 0 <= self.early_correlation <= 1:
            raise ValueError("early_correlation must be within 0 and 1")
        if not self.concentrations or any(theta <= 0 for theta in self.concentrations):
            raise ValueError("concentrations must be positive")
        if len(self.weights) != size or any(
            len(row) != len(self.concentrations) for row in self.weights
        ):
            raise ValueError("weights must have a row per difficulty, a column per concentration")
        flat = [weight for row in self.weights for weight in row]
        if any(weight < 0 for weight in flat) or not math.isclose(sum(flat), 1, abs_tol=1e-6):
            raise ValueError("weights must not be negative and must add up to 1")

    def finished_share(self, max_tokens: ArrayLike) -> FloatArray:
        """Share of branches that stop by themselves within the cap, over all problems."""
        caps = np.asarray(max_tokens, dtype=np.float64)
        by_type = self.finished_share_by_type(caps.reshape(-1))
        return np.asarray((self._shares() @ by_type.mean(axis=1)).reshape(caps.shape))

    def finished_share_by_type(self, max_tokens: FloatArray) -> FloatArray:
        """The same per difficulty and problem scale; (difficulties, scales, caps)."""
        scale = np.outer(self.length_scales, self.problem_scales)[:, :, None]
        probabilities = np.linspace(0.0, 1.0, len(self.length_quantiles))
        return np.interp(
            max_tokens / scale, self.length_quantiles, probabilities, left=0.0, right=1.0
        )

    def length_quantile(self, probability: ArrayLike) -> FloatArray:
        """Completion tokens within which this share of all branches stops by itself."""
        scales = np.outer(self.length_scales, self.problem_scales).reshape(-1)
        longest = self.length_quantiles[-1] * float(scales.max())
        grid = np.concatenate([[0.0], np.geomspace(1.0, max(longest, 2.0), 200)])
        share = np.maximum.accumulate(self.finished_share(grid))
        return np.asarray(np.interp(np.asarray(probability, dtype=np.float64), share, grid))

    def mean_length(self, max_tokens: float) -> float:
        """Mean completion tokens of a branch cut at the cap."""
        grid = np.linspace(0.0, max_tokens, 200)
        return float(np.trapezoid(1.0 - self.finished_share(grid), grid))

    def accuracy_of(self, num_branches: int, max_tokens: float) -> float:
        """Probability that the plurality of the branches that finish within the cap is right.

        A branch cut by the cap gives no vote, and a problem without votes is wrong; of equally
        popular answers the one that came first wins.

        Raises:
            ValueError: `num_branches` is not within 1 and `MAX_BRANCHES`.
        """
        return float(self.accuracy_grid((num_branches,), np.array([max_tokens]))[0, 0])

    def accuracy_grid(self, branches: tuple[int, ...], max_tokens: FloatArray) -> FloatArray:
        """`accuracy_of` for all pairs; (branches, caps)."""
        by_type = self.finished_share_by_type(max_tokens)  # (difficulties, scales, caps)
        voting = by_type * np.asarray(self.answer_rates)[:, None, None]
        right = interpolate_share(_right_curves(self, branches), voting)
        mixed = np.einsum("p,bpsc->bc", self._shares(), right)
        return np.asarray(mixed / len(self.problem_scales))

    def answered_grid(self, branches: tuple[int, ...], max_tokens: FloatArray) -> FloatArray:
        """Expected share of problems with at least one vote; (branches, caps)."""
        by_type = self.finished_share_by_type(max_tokens)  # (difficulties, scales, caps)
        silent = 1.0 - by_type * np.asarray(self.answer_rates)[:, None, None]
        widths = np.asarray(branches, dtype=np.float64)[:, None, None, None]
        return np.asarray(
            1.0 - np.einsum("p,bpsc->bc", self._shares(), silent**widths) / by_type.shape[1]
        )

    def expected_branches_used(self, num_branches: int) -> float:
        """Branches that end before the vote is decided, when all start together and finish."""
        return float((1.0 - self.decided_after(num_branches)[:, :-1]).sum(axis=1) @ self._shares())

    def decided_after(self, num_branches: int) -> FloatArray:
        """P(vote decided after n branches ended); (difficulties, n from 0 to `num_branches`)."""
        lead = vote_table(self.difficulty, self.concentrations).lead
        given_difficulty = np.asarray(self.weights) / np.maximum(self._shares(), 1e-300)[:, None]
        return decided(np.einsum("pt,ptvl->pvl", given_difficulty, lead), num_branches)

    def _shares(self) -> FloatArray:
        return np.asarray(np.asarray(self.weights).sum(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` restores the profile."""
        data = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        data["weights"] = [list(row) for row in self.weights]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AnswerProfile":
        """Restore a profile from JSON values.

        Raises:
            ValueError: A field is missing, unknown, of the wrong type or out of range.
        """
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        try:
            values["weights"] = tuple(tuple(row) for row in data["weights"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not an answer profile: {error}") from error

    @classmethod
    def uninformed(cls, model: str, family: str = "any") -> "AnswerProfile":
        """The cold start: a broad guess to be replaced by a fit as soon as branches are stored.

        Lengths are log-normal around 1,000 tokens with half an octave either way within a problem
        and one octave between problems; difficulty is uniform; hard problems run twice as long as
        easy ones. Only the shape is meant seriously.
        """
        difficulty = DIFFICULTY_GRID
        even = 1.0 / (len(difficulty) * len(CONCENTRATION_GRID))
        inner = ndtri(np.linspace(0.005, 0.995, 101))
        outer = ndtri((np.arange(13) + 0.5) / 13)
        return cls(
            model=model,
            family=family,
            source="cold start: a broad prior, no branch of this model was seen",
            num_problems_seen=0,
            num_branches_seen=0,
            length_quantiles=tuple((1000.0 * np.exp(0.35 * inner)).tolist()),
            problem_scales=tuple(np.exp(0.7 * outer).tolist()),
            difficulty=difficulty,
            length_scales=tuple(2.0 ** (0.5 - p) for p in difficulty),
            answer_rates=(0.95,) * len(difficulty),
            concentrations=CONCENTRATION_GRID,
            weights=((even,) * len(CONCENTRATION_GRID),) * len(difficulty),
        )


DIFFICULTY_GRID: tuple[float, ...] = tuple(
    # Denser near 0 and 1, where most problems of a strong or weak model lie.
    round(0.5 - 0.5 * math.cos(math.pi * i / 24), 6)
    for i in range(25)
)
CONCENTRATION_GRID: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 50.0)

SHARE_GRID: FloatArray = 0.5 - 0.5 * np.cos(np.pi * np.arange(65) / 64)
"""Shares in [0, 1] at which curves are tabulated, dense at both ends where they bend most."""


def interpolate_share(curves: FloatArray, share: FloatArray) -> FloatArray:
    """Linear interpolation of curves tabulated on `SHARE_GRID`.

    Args:
        curves: (branches, difficulties, grid).
        share: (difficulties, scales, points), within [0, 1].

    Returns:
        (branches, difficulties, scales, points).
    """
    left = np.clip(np.searchsorted(SHARE_GRID, share, side="right") - 1, 0, len(SHARE_GRID) - 2)
    part = (share - SHARE_GRID[left]) / (SHARE_GRID[left + 1] - SHARE_GRID[left])
    row = np.arange(curves.shape[1])[:, None, None]
    return np.asarray(curves[:, row, left] * (1.0 - part) + curves[:, row, left + 1] * part)


@lru_cache(maxsize=64)
def _right_curves(profile: AnswerProfile, branches: tuple[int, ...]) -> FloatArray:
    """P(right) against the share of branches that vote; (branches, difficulties, SHARE_GRID)."""
    if any(not 1 <= count <= MAX_BRANCHES for count in branches):
        raise ValueError(f"num_branches must be within 1 and {MAX_BRANCHES}, got {branches}")
    weights = np.asarray(profile.weights)
    right = vote_table(profile.difficulty, profile.concentrations).right
    total = np.maximum(weights.sum(axis=1), 1e-300)[:, None]
    by_votes = np.einsum("pt,ptv->pv", weights, right) / total
    return np.asarray(np.einsum("bgv,pv->bpg", binomial(branches, SHARE_GRID), by_votes))
