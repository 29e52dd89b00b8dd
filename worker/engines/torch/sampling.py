"""Turns logits into probabilities and draws tokens, exactly, for many rows at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engines.base import Sampling

_BELOW_ONE = 1.0 - 2.0**-23
"""Uniforms end here, so that their rounded product with a total stays below the total: above it
lies a token that may be impossible."""


_ALL = 2**31 - 1
"""More tokens than any vocabulary has."""


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Sampling settings of the rows of a batch, as columns.

    Attributes:
        is_greedy: None when no row is greedy; `top_k` and `top_p` likewise when no row uses them.
    """

    inverse_temperature: Tensor  # (num_rows, 1, 1)
    top_k: Tensor | None  # (num_rows, 1, 1)
    top_p: Tensor | None  # (num_rows, 1, 1)
    is_greedy: Tensor | None  # (num_rows, 1, 1)

    @classmethod
    def of(cls, rows: Sequence[Sampling], device: torch.device) -> "SamplingRows":
        """Gathers the settings of rows."""

        def column(values: list[float] | list[int] | list[bool]) -> Tensor:
            return torch.tensor(values, device=device)[:, None, None]

        greedy = [row.temperature == 0 for row in rows]
        return cls(
            column([1.0 / row.temperature if row.temperature else 1.0 for row in rows]),
            column([row.top_k or _ALL for row in rows]) if any(r.top_k for r in rows) else None,
            column([row.top_p for row in rows]) if any(r.top_p < 1 for r in rows) else None,
            column(greedy) if any(greedy) else None,
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns what rows 0, 1, ... sample from, given (num_rows, width, vocab_size) logits."""
        num_rows = len(logits)
        probabilities = (logits * self.inverse_temperature[:num_rows]).softmax(-1)
        if self.top_k is not None:
            probabilities = _keep_likeliest(probabilities, self.top_k[:num_rows])
        if self.top_p is not None:
            probabilities = _keep_nucleus(probabilities, self.top_p[:num_rows])
        if self.is_greedy is not None:
            best = logits.argmax(-1, keepdim=True)
            certain = torch.zeros_like(logits).scatter_(-1, best, 1.0)
            probabilities = torch.where(self.is_greedy[:num_rows], certain, probabilities)
        return probabilities


def _keep_likeliest(probabilities: Tensor, top_k: Tensor) -> Tensor:
    """Keeps the `top_k` most likely tokens; of equal ones at the edge, any."""
    ordered, order = probabilities.sort(-1, descending=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    kept = torch.zeros_like(ordered).scatter_(-1, order, ordered.masked_fill_(rank >= top_k, 0.0))
    return kept.div_(kept.sum(-1, keepdim=True))


def _keep_nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Keeps the fewest most likely tokens that reach `top_p` (Holtzman et al. 1904.09751)."""
    ordered, order = probabilities.sort(-1, descending=True)
    is_dropped = (ordered.cumsum(-1) - ordered >= top_p) & (top_p < 1)
    is_dropped[..., 0] = False
    kept = torch.zeros_like(ordered).scatter_(-1, order, ordered.masked_fill_(is_dropped, 0.0))
    return kept.div_(kept.sum(-1, keepdim=True))


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Draws one token per row in proportion to its weights, by inverting the distribution.

    Args:
        weights: (num_rows, vocab_size), any positive sum.
        uniforms: (num_rows, 1) from `Uniforms`.
    """
    cumulative = weights.cumsum(-1)
    thresholds = cumulative[:, -1:] * uniforms
    return torch.searchsorted(cumulative, thresholds, right=True)[:, 0]


def verify(
    target: Tensor, draft: Tensor, drafted: Tensor, is_drafted: Tensor | None, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Accepts a prefix of each row's draft and draws the token after it.

    This is speculative sampling of Leviathan et al. 2211.17192, algorithm 1: accept with
    probability min(1, p/q); at the first rejection draw from norm(max(p - q, 0)); after a draft
    accepted as a whole draw from p, which is the same formula with q = 0.

    Args:
        target: p (num_rows, width, vocab_size) with width = longest draft + 1.
        draft: q, same shape, 0 where a row drafted nothing.
        drafted: Drafted tokens (num_rows, width - 1).
        is_drafted: False where a row drafted nothing; None when all rows drafted all.
        uniforms: (num_rows, width, 2); see `Uniforms`.

    Returns:
        Number of accepted tokens and the next token, each (num_rows,).
    """
    last = drafted.shape[1]
    if last == 0:
        return drafted.new_zeros(len(drafted)), draw(target[:, 0], uniforms[:, 0, :1])
    tokens = drafted[..., None]
    p = target[:, :last].gather(2, tokens)[..., 0]
    q = draft[:, :last].gather(2, tokens)[..., 0]
    is_accepted = uniforms[:, 1:, 1] * q < p
    if is_drafted is not None:
        is_accepted &= is_drafted
    num_accepted = is_accepted.long().cumprod(1).sum(1)
    at = num_accepted[:, None, None].expand(-1, 1, target.shape[2])
    p_next = target.gather(1, at)[:, 0]
    residual = (p_next - draft.gather(1, at)[:, 0]).clamp_(min=0.0)
    # Rounding can reject a token where p and q agree; then p itself is the right distribution.
    weights = torch.where(residual.sum(-1, keepdim=True) > 0, residual, p_next)
    return num_accepted, draw(weights, uniforms[:, 0, :1])


class Uniforms:
    """Uniform random numbers from 0 to just below 1 for the rows of a step.

    Row r of a step uses entry [r, 0, 0] for the token that the target draws, and for drafted token
    j entries [r, 1 + j, 0] to draw and [r, 1 + j, 1] to accept it. A seeded row has a generator of
    its own and consumes a number of uniforms that depends on its own draft length only, so it
    does not matter what it is batched with.
    """

    def __init__(self, device: torch.device, seed: int | None = None) -> None:
        self._device = device
        self._generator = torch.Generator(device)
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def seeded(self, seed: int | None) -> torch.Generator | None:
        """Returns a generator for a row with a seed."""
        return None if seed is None else torch.Generator(self._device).manual_seed(seed % 2**63)

    def draw(
        self, num_rows: int, width: int, seeded: Sequence[tuple[int, int, torch.Generator]]
    ) -> Tensor:
        """Draws (num_rows, width, 2).

        Args:
            seeded: Row, its own width and its generator.
        """
        uniforms = torch.rand(num_rows, width, 2, generator=self._generator, device=self._device)
        for row, own_width, generator in seeded:
            uniforms[row, :own_width] = torch.rand(
                own_width, 2, generator=generator, device=self._device
            )
        return uniforms.mul_(_BELOW_ONE)
