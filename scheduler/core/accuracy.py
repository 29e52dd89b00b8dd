"""What a model's branches look like: how long they run and how often they are right.

Theory of operation: a problem has a latent type. Its *difficulty* is the probability that a branch
that gave an answer gave the right one; its *concentration* theta says how its wrong answers
collide: they are drawn like a Chinese restaurant process, so a new wrong answer repeats one of n
earlier wrong ones with probability n / (n + theta). Small theta is a problem with one popular wrong
answer, which more branches entrench. `weights` is the joint mixture over both.

A problem also has a kind of lengths: a scale (hard ones run longer, and problems differ at equal
difficulty) and two spreads, as some problems have a few branches that run away and others a few
that are short. With m the median of `length_quantiles` and q a draw from them, a branch runs for
scale * m * (q / m)^spread tokens, with one spread for q below m and one above. Wrong answers run
longer than right ones to the same problem, so that a tight cap cuts more of them: votes under a cap
count as of a problem whose difficulty is p F_right / (p F_right + (1 - p) F_wrong).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from scheduler.core.curves import interpolate_type, right_curves
from scheduler.core.latency import FloatArray
from scheduler.core.votes import decided, lead_table


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
        difficulty: Grid of P(right | answered), ascending.
        length_scales: Length scales of problems, equally likely; one row per difficulty, one column
            per kind of lengths.
        length_spreads: Spread of log lengths within a problem, relative to that of
            `length_quantiles`, below its median; the same rows and columns.
        upper_spreads: The same above its median; empty when it is no other, as in old profiles.
        wrong_length_ratio: Length of wrong answers over that of right ones to the same problem.
        answer_rates: P(answered | finished) of each difficulty.
        concentrations: Grid of theta, ascending.
        weights: Probability of each type, one row per difficulty, one column per concentration.
        early_correlation: How much the votes of the branches that end first repeat each other, 0 as
            independent votes do, 1 as one vote would; see `posterior`. By default not known.
        right_first: Of a right and a wrong branch of a problem, how often the right one ends first.
    """

    model: str
    family: str
    source: str
    num_problems_seen: int
    num_branches_seen: int
    length_quantiles: tuple[float, ...]
    difficulty: tuple[float, ...]
    length_scales: tuple[tuple[float, ...], ...]
    length_spreads: tuple[tuple[float, ...], ...]
    wrong_length_ratio: float
    answer_rates: tuple[float, ...]
    concentrations: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    early_correlation: float = 0.5
    upper_spreads: tuple[tuple[float, ...], ...] = ()
    right_first: float = 0.5

    def __post_init__(self) -> None:
        size = len(self.difficulty)
        if not self.upper_spreads:
            object.__setattr__(self, "upper_spreads", self.length_spreads)
        quantiles = self.length_quantiles
        if len(quantiles) < 2 or list(quantiles) != sorted(quantiles):
            raise ValueError("length_quantiles must be at least two ascending token counts")
        if quantiles[0] < 0 or quantiles[-1] <= 0:
            raise ValueError("length_quantiles must be positive token counts")
        if not size or len(self.answer_rates) != size:
            raise ValueError("difficulty and answer_rates must be equally long")
        if any(not 0 <= p <= 1 for p in (*self.difficulty, *self.answer_rates)):
            raise ValueError("difficulty and answer_rates must be probabilities")
        if not 0 <= self.early_correlation <= 1 or not 0 < self.right_first < 1:
            raise ValueError("early_correlation and right_first must be within 0 and 1")
        if not self.concentrations or any(theta <= 0 for theta in self.concentrations):
            raise ValueError("concentrations must be positive")
        kinds = len(self.length_scales[0]) if self.length_scales else 0
        columns = (kinds, kinds, kinds, len(self.concentrations))
        for name, width in zip(_TABLES, columns, strict=True):
            table = getattr(self, name)
            if len(table) != size or not width or any(len(row) != width for row in table):
                raise ValueError(f"{name} must have a row per difficulty, all of {width} columns")
        lengths = (*self.length_scales, *self.length_spreads, *self.upper_spreads)
        if not all(x > 0 for row in lengths for x in row):
            raise ValueError("length_scales, length_spreads and upper_spreads must be positive")
        if not self.wrong_length_ratio > 0:
            raise ValueError("wrong_length_ratio must be positive")
        flat = np.ravel(self.weights)
        if (flat < 0).any() or not math.isclose(flat.sum(), 1, abs_tol=1e-6):
            raise ValueError("weights must not be negative and must add up to 1")

    def __hash__(self) -> int:
        # Profiles are keys of many caches; the tables are for equality to compare.
        return hash((self.model, self.family, self.num_branches_seen, self.wrong_length_ratio))

    def finished_share(self, max_tokens: ArrayLike) -> FloatArray:
        """Share of branches that stop by themselves within the cap, over all problems."""
        caps = np.asarray(max_tokens, dtype=np.float64)
        by_type = self.finished_share_by_type(caps.reshape(-1))
        return np.asarray((self._shares() @ by_type.mean(axis=1)).reshape(caps.shape))

    def finished_share_by_type(self, max_tokens: FloatArray) -> FloatArray:
        """The same per difficulty and kind of lengths; (difficulties, kinds, caps)."""
        right, wrong = self._finished_right_and_wrong(max_tokens)
        return np.asarray(right + wrong)

    def _finished_right_and_wrong(self, max_tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Finished share split by whether the branch is right; (difficulties, kinds, caps) each."""
        p = np.asarray(self.difficulty)[:, None, None]
        log_ratio = math.log(self.wrong_length_ratio)
        scaled = max_tokens / np.asarray(self.length_scales)[:, :, None]
        # The two factors leave the geometric mean over all branches of a problem as it is.
        right = self._share_within(scaled * np.exp((1.0 - p) * log_ratio))
        wrong = self._share_within(scaled * np.exp(-p * log_ratio))
        return p * right, (1.0 - p) * wrong

    def _share_within(self, scaled: FloatArray) -> FloatArray:
        """P(branch ends within so many tokens of a problem with scale 1)."""
        median = float(np.median(self.length_quantiles))
        spreads = np.array([self.length_spreads, self.upper_spreads])[..., None]
        power = 1.0 / np.where(scaled < median, *spreads)
        tokens: FloatArray = median * (scaled / median) ** power
        probabilities = np.linspace(0.0, 1.0, len(self.length_quantiles))
        return np.interp(tokens, self.length_quantiles, probabilities, left=0.0, right=1.0)

    def length_quantile(self, probability: ArrayLike) -> FloatArray:
        """Completion tokens within which this share of all branches stops by itself."""
        grid = np.concatenate([[0.0], np.geomspace(1.0, max(self._longest(), 2.0), 200)])
        share = np.maximum.accumulate(self.finished_share(grid))
        return np.asarray(np.interp(np.asarray(probability, dtype=np.float64), share, grid))

    def _longest(self) -> float:
        median = float(np.median(self.length_quantiles))
        beyond = (self.length_quantiles[-1] / median) ** np.asarray(self.upper_spreads)
        slower = max(self.wrong_length_ratio, 1.0 / self.wrong_length_ratio)
        return float((median * np.asarray(self.length_scales) * beyond).max() * slower)

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
        right, wrong = self._finished_right_and_wrong(max_tokens)  # (difficulties, kinds, caps)
        finished = right + wrong
        p = np.asarray(self.difficulty)[:, None, None]
        effective = np.where(finished > 0, right / np.maximum(finished, 1e-300), p)
        voting = finished * np.asarray(self.answer_rates)[:, None, None]
        types = self.difficulty, self.concentrations, self.weights
        curves = right_curves(*types, branches, self.right_first)
        votes_right = interpolate_type(curves, self.difficulty, effective, voting)
        mixed = np.einsum("p,bpsc->bc", self._shares(), votes_right)
        return np.asarray(mixed / votes_right.shape[2])

    def answered_grid(self, branches: tuple[int, ...], max_tokens: FloatArray) -> FloatArray:
        """Expected share of problems with at least one vote; (branches, caps)."""
        by_type = self.finished_share_by_type(max_tokens)  # (difficulties, scales, caps)
        silent = 1.0 - by_type * np.asarray(self.answer_rates)[:, None, None]
        widths = np.asarray(branches, dtype=np.float64)[:, None, None, None]
        return np.asarray(
            1.0 - np.einsum("p,bpsc->bc", self._shares(), silent**widths) / by_type.shape[1]
        )

    def decided_after(self, num_branches: int) -> FloatArray:
        """P(vote decided after n branches ended); (difficulties, n from 0 to `num_branches`)."""
        lead = lead_table(self.difficulty, self.concentrations)
        given_difficulty = np.asarray(self.weights) / np.maximum(self._shares(), 1e-300)[:, None]
        return decided(np.einsum("pt,ptvl->pvl", given_difficulty, lead), num_branches)

    def _shares(self) -> FloatArray:
        return np.asarray(np.asarray(self.weights).sum(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` restores the profile."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AnswerProfile":
        """Restore a profile from JSON values.

        Raises:
            ValueError: A field is missing, unknown, of the wrong type or out of range.
        """
        values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        try:
            for name in _TABLES:
                values[name] = tuple(tuple(row) for row in data.get(name, ()))
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not an answer profile: {error}") from error

    @classmethod
    def uninformed(cls, model: str, family: str = "any") -> "AnswerProfile":
        """The cold start: a broad guess to be replaced by a fit as soon as branches are stored.

        Lengths are log-normal around 1,000 tokens, half an octave either way within a problem and
        one between problems; difficulty is uniform; hard problems run twice as long as easy ones.
        """
        difficulty = DIFFICULTY_GRID
        even = 1.0 / (len(difficulty) * len(CONCENTRATION_GRID))
        inner = ndtri(np.linspace(0.005, 0.995, 101))
        outer = np.repeat(np.exp(0.7 * ndtri((np.arange(LEVELS) + 0.5) / LEVELS)), 2)
        return cls(
            model=model,
            family=family,
            source="cold start: a broad prior, no branch of this model was seen",
            num_problems_seen=0,
            num_branches_seen=0,
            length_quantiles=tuple((1000.0 * np.exp(0.35 * inner)).tolist()),
            difficulty=difficulty,
            length_scales=tuple(tuple((2.0 ** (0.5 - p) * outer).tolist()) for p in difficulty),
            length_spreads=((1.0,) * len(outer),) * len(difficulty),
            wrong_length_ratio=1.0,
            answer_rates=(0.95,) * len(difficulty),
            concentrations=CONCENTRATION_GRID,
            weights=((even,) * len(CONCENTRATION_GRID),) * len(difficulty),
        )


DIFFICULTY_GRID: tuple[float, ...] = tuple(
    # Denser near 0 and 1, where most problems of a strong or weak model lie.
    round(0.5 - 0.5 * math.cos(math.pi * i / 24), 6)
    for i in range(25)
)
LEVELS = 8  # of length that problems of one difficulty are sorted into, each narrow or wide
CONCENTRATION_GRID: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 50.0)

_TABLES = ("length_scales", "length_spreads", "upper_spreads", "weights")
