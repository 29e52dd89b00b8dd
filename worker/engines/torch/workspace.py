"""Buffers for what a layer computes, with every view of them that a forward pass needs.

Theory of operation: for a small model a step is mostly overhead, and cutting a fresh result into
queries, keys and values costs as much as a small product. So results go into the same memory layer
after layer, and views are made once per number of tokens.
"""

import torch
from torch import Tensor

from worker.engines.torch.config import LlamaConfig


class Workspace:
    """Results of one layer for a number of tokens; the next layer overwrites them.

    Attributes:
        qkv: Queries, keys and values side by side.
        queries: (num_tokens, num_heads * head_dim), a view of `qkv`.
        keys_values: (num_tokens, 2 * num_kv_heads, head_dim), a view of `qkv`.
        gate_up: Gate and up projections side by side; `gate` and `up` are its halves.
    """

    def __init__(self, config: LlamaConfig, qkv: Tensor, gate_up: Tensor) -> None:
        heads, head_dim = config.num_heads, config.head_dim
        self.qkv, self.gate_up = qkv, gate_up
        self.queries = qkv[:, : heads * head_dim]
        by_head = qkv.view(len(qkv), -1, head_dim)
        self.keys_values = by_head[:, heads:]
        self._rotated = by_head[:, : heads + config.num_kv_heads]
        self._pairs = self._rotated.view(*self._rotated.shape[:-1], -1, 2)
        self._complex = torch.view_as_complex(self._pairs) if qkv.dtype == torch.float32 else None
        self.gate = gate_up[:, : config.intermediate_size]
        self.up = gate_up[:, config.intermediate_size :]

    @classmethod
    def allocate(
        cls, config: LlamaConfig, num_tokens: int, device: torch.device, dtype: torch.dtype
    ) -> "Workspace":
        """Allocates memory for a number of tokens."""
        width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        qkv = torch.empty(num_tokens, width, device=device, dtype=dtype)
        gate_up = torch.empty(num_tokens, 2 * config.intermediate_size, device=device, dtype=dtype)
        return cls(config, qkv, gate_up)

    def rotate(self, rotation: Tensor) -> None:
        """Rotates queries and keys in place, adjacent pairs together.

        Args:
            rotation: (num_tokens, 1, head_dim / 2) complex
        """
        if self._complex is not None:
            self._complex.mul_(rotation)
        else:
            pairs = torch.view_as_complex(self._pairs.float())
            self._pairs.copy_(torch.view_as_real(pairs * rotation))


class Workspaces:
    """Workspaces of decode steps by number of tokens, all in the same memory."""

    def __init__(self, config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        self._largest: Workspace | None = None
        self._by_num_tokens: dict[int, Workspace] = {}

    def of(self, num_tokens: int) -> Workspace:
        """Returns the workspace for a number of tokens; it is valid until the next call."""
        found = self._by_num_tokens.get(num_tokens)
        if found is not None:
            return found
        largest = self._largest
        if largest is None or len(largest.qkv) < num_tokens:
            largest = Workspace.allocate(self._config, num_tokens, self._device, self._dtype)
            self._largest, self._by_num_tokens = largest, {}
        made = Workspace(self._config, largest.qkv[:num_tokens], largest.gate_up[:num_tokens])
        self._by_num_tokens[num_tokens] = made
        return made
