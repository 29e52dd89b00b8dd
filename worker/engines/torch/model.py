"""The forward pass of a Llama decoder over rows of cached tokens.

Theory of operation: tokens come *packed*, row after row, so matrix products see only real tokens
even when rows of one step verify drafts of different lengths. Attention wants a rectangle: with
mixed widths, queries are spread to the widest row before it and gathered after it. Few and fused
operations matter more than their arithmetic for small models, where a step is mostly overhead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.torch.cache import KvCache, Segment
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.weights import LlamaWeights
from worker.engines.torch.workspace import Workspace, Workspaces


@dataclass(slots=True)
class Pass:
    """Where the tokens of one forward pass lie, and what they may attend to.

    Attributes:
        write: Rows of the flat cache that receive keys and values, token by token.
        segments: All rows, in order; each attends to as much context as its segment has.
        mask: Added to scores; None means causal within the pass, with an empty cache before it.
        spread: Packed index of each (row, position), when widths differ.
        gather: Index in the rectangle of each packed token, when widths differ.
    """

    num_rows: int
    width: int
    rotation: Tensor  # (num_tokens, 1, head_dim / 2) complex
    write: Tensor  # (num_tokens * 2 * num_kv_heads,)
    cache: KvCache
    segments: Sequence[Segment]
    mask: Tensor | None  # (num_rows, 1, queries_per_kv_head * width, longest segment)
    spread: Tensor | None = None  # (num_rows * width,)
    gather: Tensor | None = None  # (num_tokens,)


class LlamaModel:
    """A decoder with its weights; stateless, the cache comes with each pass."""

    def __init__(self, config: LlamaConfig, weights: LlamaWeights, max_positions: int) -> None:
        self.config, self.weights = config, weights
        device = weights.embedding.device
        self.dtype, self.device = weights.embedding.dtype, device
        self._eps_norm = torch.tensor(
            math.sqrt(config.hidden_size * config.rms_norm_eps), device=device
        )
        half = torch.arange(0, config.head_dim, 2, device=device).float() / config.head_dim
        angles = torch.outer(
            torch.arange(max_positions, device=device).float(), config.rope_theta**-half
        )
        self._rotations = torch.polar(torch.ones_like(angles), angles)[:, None]
        edge = torch.zeros(2 * max_positions, device=device, dtype=self.dtype)
        edge[max_positions:] = -torch.inf
        self._masks = edge.unfold(0, max_positions, 1)
        self._workspaces = Workspaces(config, device, self.dtype)

    def new_cache(self, num_slots: int, max_tokens: int) -> KvCache:
        """Allocates a cache that fits this model."""
        return KvCache(
            self.config,
            num_slots=num_slots,
            max_tokens=max_tokens,
            device=self.device,
            dtype=self.dtype,
        )

    def rotations(self, positions: Tensor) -> Tensor:
        """Looks up the rotary factors (Su et al. 2104.09864) of flat positions."""
        return self._rotations.index_select(0, positions)

    def mask(self, positions: Tensor, num_cached: int) -> Tensor:
        """Looks up what to add to scores: 0 up to a token's own position and -inf beyond.

        Args:
            positions: (num_rows, width)

        Returns:
            (num_rows, 1, width, num_cached), for `grouped`.
        """
        each = len(self._masks) - 2 - positions
        masks = self._masks[:, :num_cached].index_select(0, each.flatten())
        return masks.view(len(positions), 1, -1, num_cached)

    def grouped(self, mask: Tensor) -> Tensor:
        """Repeats a mask for the queries that share a KV head, which attend side by side."""
        groups = self.config.queries_per_kv_head
        return mask.repeat(1, 1, groups, 1) if groups > 1 else mask

    def forward(self, tokens: Tensor, step: Pass) -> Tensor:
        """Writes the tokens' keys and values and returns their normed hidden states.

        Args:
            tokens: (num_tokens,) packed.
        """
        head_dim, flat = self.config.head_dim, step.cache.flat
        views = list(zip(*(step.cache.views(segment) for segment in step.segments), strict=True))
        masks: list[Tensor | None] = [step.mask]
        if step.mask is not None and (len(step.segments) > 1 or step.segments[0].prompt):
            masks = [step.mask[s.start : s.stop, ..., slice(*s.span)] for s in step.segments]
        x = self.weights.embedding.index_select(0, tokens)
        work = self._workspace(len(tokens), step)
        for i, layer in enumerate(self.weights.layers):
            torch.mm(self._norm(x, layer.attention_norm), layer.qkv, out=work.qkv)
            work.rotate(step.rotation)
            flat[i].index_copy_(0, step.write, work.keys_values.reshape(-1, head_dim))
            attended = self._attend(work.queries, views[i], masks, step, i)
            x = torch.addmm(x, attended, layer.attention_out)
            torch.mm(self._norm(x, layer.mlp_norm), layer.gate_up, out=work.gate_up)
            x = torch.addmm(x, functional.silu(work.gate).mul_(work.up), layer.down)
        return self._norm(x, self.weights.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns float32 logits (num_tokens, vocab_size) of normed hidden states."""
        return torch.mm(hidden, self.weights.head).float()

    def _workspace(self, num_tokens: int, step: Pass) -> Workspace:
        if step.mask is None:  # a prompt's memory is not worth keeping
            return Workspace.allocate(self.config, num_tokens, self.device, self.dtype)
        return self._workspaces.of(num_tokens)

    def _norm(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """RMS norm (Zhang and Sennrich 1910.07467); half as many operations when it is folded."""
        if weight is not None:
            return functional.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / torch.hypot(norm, self._eps_norm)

    def _attend(
        self,
        q: Tensor,
        views: Sequence[tuple[Tensor, Tensor]],
        masks: Sequence[Tensor | None],
        step: Pass,
        layer: int,
    ) -> Tensor:
        """Attends from (num_tokens, num_heads * head_dim) queries; returns the same shape.

        Args:
            views: Keys and values of each segment; `masks` likewise.
        """
        if step.spread is not None:
            q = q.index_select(0, step.spread)
        rows, width = step.num_rows, step.width
        heads, groups = self.config.num_heads, self.config.queries_per_kv_head
        kv_heads, is_folded = heads // groups, groups > 1 and step.mask is not None
        if is_folded:
            # Queries that share a KV head join its width, so keys are never repeated.
            q = q.view(rows, width, kv_heads, groups, -1).permute(0, 2, 3, 1, 4)
            q = q.reshape(rows, kv_heads, groups * width, -1)
        else:
            q = q.view(rows, width, heads, -1).transpose(1, 2)
        split: Sequence[Tensor] = (q,)
        if len(masks) > 1:
            split = q.split_with_sizes([s.stop - s.start for s in step.segments])
        parts = [
            attend_after(segment.prompt.whole[layer], queries, keys, values, mask)
            if segment.prompt
            else functional.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None,
                enable_gqa=groups > 1 and not is_folded,
            ).transpose(1, 2)
            for segment, queries, (keys, values), mask in zip(
                step.segments, split, views, masks, strict=True
            )
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        if is_folded:
            out = out.view(rows, groups, width, kv_heads, -1).permute(0, 2, 3, 1, 4)
        out = out.reshape(rows * width, -1)
        return out if step.gather is None else out.index_select(0, step.gather)


def attend_after(
    prompt: tuple[Tensor, Tensor],
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Attends to a prompt that all rows share, in one product, and to what follows it in each.

    Both parts are softmax averages, so the whole is their average by the sums of exponents. Only
    the operator behind the public one tells these sums; a CPU has it for every type.

    Args:
        prompt: Keys and values, each (1, num_kv_heads, prompt tokens, head_dim).
        queries: (num_rows, num_kv_heads, width, head_dim); `keys` and `values` likewise.

    Returns:
        (num_rows, width, num_kv_heads, head_dim)
    """
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own, own_log_sum = (
        part.transpose(1, 2) for part in attend(queries, keys, values, attn_mask=mask)
    )
    together = queries.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None]
    shared, shared_log_sum = (part.transpose(1, 2)[0] for part in attend(together, *prompt))
    weight = torch.sigmoid(shared_log_sum.view(own_log_sum.shape) - own_log_sum)
    return torch.lerp(own, shared.view(own.shape), weight[..., None])
