"""How long an engine takes: the fitted latency of one step, of a prefill and of one token.

Theory of operation: a decode step verifies `rows * (k + 1)` tokens, k being the draft length. Its
time is affine in the verified tokens and in the context read from the KV cache, plus the draft:

    step_time_s = a + b(rows * (k + 1)) + c * context_tokens + k * (d0 + d1 * rows)

`b` is piecewise linear, because a step bound by reading weights is nearly flat in tokens and one
bound by compute is not. `context_tokens` is the total over all rows of the tokens in their KV
caches (prompt plus what is generated so far). A profile is off by two kinds of error: that of one
step, which averages out along a branch, and that of a whole run, which does not. The form is that
of SmartSpec (arXiv 2406.14066) and TAPER (arXiv 2605.06914); coefficients are fitted from
measurements, never taken from a roofline.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scheduler.core import acceptance as drafts
from scheduler.core.acceptance import UNCOUNTED_TRIES, FloatArray

__all__ = ["FloatArray", "LatencyProfile"]


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """Measured latency of one engine on one device.

    Attributes:
        method: How the numbers were obtained, in words; says what was measured and what assumed.
        measured_at: ISO 8601 date or instant.
        base_s: Fixed time of a step (`a`).
        token_knots: Verified tokens at which the slope `b` changes, ascending, the first is 0.
        token_slopes_s: Seconds per verified token from each knot on; as many as knots.
        context_s: Seconds per token of context, summed over rows (`c`).
        draft_base_s: Fixed time of one drafting pass (`d0`).
        draft_row_s: Time of one drafting pass per row (`d1`).
        prefill_base_s: Fixed time of a prefill.
        prefill_token_s: Prefill time per prompt token.
        residual_sigma: Standard deviation of log(measured / predicted) of a whole run: what does
            not average out over the steps of a branch.
        acceptance: Conditional probability that draft position i is accepted given that all
            earlier ones were. Positions beyond the measured ones count as never accepted.
        acceptance_tries: Independent tries that each probability is worth; none: not counted.
        acceptance_decay_per_token: Rate at which acceptance falls with the output position.
        step_sigma: Standard deviation of log(measured / predicted) of one measured point within
            its run; it averages out.
    """

    engine: str
    model: str
    device: str
    method: str
    measured_at: str
    base_s: float
    token_slopes_s: tuple[float, ...]
    context_s: float = 0.0
    draft_base_s: float = 0.0
    draft_row_s: float = 0.0
    prefill_base_s: float = 0.0
    prefill_token_s: float = 0.0
    residual_sigma: float = 0.05
    acceptance: tuple[float, ...] = ()
    token_knots: tuple[float, ...] = (0.0,)
    acceptance_tries: tuple[float, ...] = ()
    acceptance_decay_per_token: float = 0.0
    step_sigma: float = 0.0

    def __post_init__(self) -> None:
        knots, slopes = self.token_knots, self.token_slopes_s
        if not knots or knots[0] != 0 or len(knots) != len(slopes):
            raise ValueError(
                "token_knots must start at 0 and token_slopes_s must have one slope per knot,"
                f" got {len(knots)} knots and {len(slopes)} slopes"
            )
        if any(b <= a for a, b in itertools.pairwise(knots)):
            raise ValueError(f"token_knots must ascend, got {knots}")
        for name, values in (
            ("token_slopes_s", slopes),
            ("context_s", (self.context_s,)),
            ("draft_base_s", (self.draft_base_s,)),
            ("draft_row_s", (self.draft_row_s,)),
            ("prefill_base_s", (self.prefill_base_s,)),
            ("prefill_token_s", (self.prefill_token_s,)),
            ("residual_sigma", (self.residual_sigma,)),
            ("step_sigma", (self.step_sigma,)),
            ("acceptance_decay_per_token", (self.acceptance_decay_per_token,)),
            ("acceptance_tries", self.acceptance_tries),
        ):
            if any(not math.isfinite(value) or value < 0 for value in values):
                raise ValueError(f"{name} must be finite and not negative, got {values}")
        if not math.isfinite(self.base_s) or self.base_s <= 0:
            raise ValueError(f"base_s must be positive seconds, got {self.base_s}")
        if any(not 0 <= value <= 1 for value in self.acceptance):
            raise ValueError(f"acceptance must be probabilities, got {self.acceptance}")
        if self.acceptance_tries and len(self.acceptance_tries) != len(self.acceptance):
            raise ValueError(
                f"acceptance_tries must be one per position of acceptance, got"
                f" {len(self.acceptance_tries)} for {len(self.acceptance)}"
            )

    def step_time_s(
        self, rows: ArrayLike, num_speculative_tokens: ArrayLike, context_tokens: ArrayLike
    ) -> FloatArray:
        """Seconds of one step; broadcasts over all arguments.

        Args:
            rows: Branches that decode together.
            num_speculative_tokens: Draft length, 0 is off.
            context_tokens: Tokens in the KV caches, total over all rows.
        """
        rows = np.asarray(rows, dtype=np.float64)
        draft = np.asarray(num_speculative_tokens, dtype=np.float64)
        tokens = rows * (draft + 1)
        time_s = self.base_s + self.context_s * np.asarray(context_tokens, dtype=np.float64)
        previous = 0.0
        for knot, slope in zip(self.token_knots, self.token_slopes_s, strict=True):
            # The slope applies from its knot on, so each knot adds the change of slope.
            time_s = time_s + (slope - previous) * np.maximum(tokens - knot, 0.0)
            previous = slope
        return np.asarray(time_s + draft * (self.draft_base_s + self.draft_row_s * rows))

    def prefill_time_s(self, prompt_tokens: ArrayLike) -> FloatArray:
        """Seconds to prefill one prompt."""
        tokens = np.asarray(prompt_tokens, dtype=np.float64)
        return np.asarray(self.prefill_base_s + self.prefill_token_s * tokens)

    def mean_acceptance_length(
        self, num_speculative_tokens: ArrayLike, output_tokens: ArrayLike = 0.0
    ) -> FloatArray:
        """Expected tokens per step over a branch of `output_tokens`, the bonus token included."""
        return drafts.mean_length(
            self.acceptance, num_speculative_tokens, output_tokens, self.acceptance_decay_per_token
        )

    def tpot_s(
        self,
        rows: ArrayLike,
        num_speculative_tokens: ArrayLike,
        context_tokens: ArrayLike,
        output_tokens: ArrayLike = 0.0,
    ) -> FloatArray:
        """Mean seconds per output token of one row; arguments as in `step_time_s`.

        Args:
            output_tokens: Length of the branch, which matters where acceptance decays.
        """
        step_s = self.step_time_s(rows, num_speculative_tokens, context_tokens)
        return np.asarray(
            step_s / self.mean_acceptance_length(num_speculative_tokens, output_tokens)
        )

    def run_sigma(self, num_speculative_tokens: ArrayLike) -> FloatArray:
        """Relative error of the time per token of a whole run: of its steps and its acceptance."""
        counted = drafts.relative_sigma(self.acceptance, self._tries, num_speculative_tokens)
        return np.asarray(np.sqrt(self.residual_sigma**2 + counted**2))

    def scaled(self, ratio: float) -> "LatencyProfile":
        """The profile with all its times multiplied."""
        return replace(
            self,
            base_s=self.base_s * ratio,
            token_slopes_s=tuple(slope * ratio for slope in self.token_slopes_s),
            context_s=self.context_s * ratio,
            draft_base_s=self.draft_base_s * ratio,
            draft_row_s=self.draft_row_s * ratio,
            prefill_base_s=self.prefill_base_s * ratio,
            prefill_token_s=self.prefill_token_s * ratio,
        )

    @property
    def _tries(self) -> tuple[float, ...]:
        return self.acceptance_tries or (UNCOUNTED_TRIES,) * len(self.acceptance)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` restores the profile."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LatencyProfile":
        """Restore a profile from JSON values.

        Raises:
            ValueError: A field is missing, unknown, of the wrong type or out of range.
        """
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a latency profile: {error}") from error
