"""Loads or draws Llama weights in the fused layout that the forward pass wants."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from worker.engines.torch.config import LlamaConfig, UnsupportedCheckpointError

_GAP = 16
"""Elements between aliased rows: a cache line of float32."""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; matrices are (inputs, outputs), so that a pass is `x @ w`.

    Attributes:
        qkv: Queries, keys and values side by side, rotary pairs made adjacent.
        gate_up: Gate and up projections side by side.
        attention_norm: None where it is folded into `qkv`; so is `mlp_norm` into `gate_up`.
    """

    qkv: Tensor  # (hidden_size, (num_heads + 2 * num_kv_heads) * head_dim)
    attention_out: Tensor  # (num_heads * head_dim, hidden_size)
    gate_up: Tensor  # (hidden_size, 2 * intermediate_size)
    down: Tensor  # (intermediate_size, hidden_size)
    attention_norm: Tensor | None  # (hidden_size,)
    mlp_norm: Tensor | None  # (hidden_size,)


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """All weights of one model."""

    embedding: Tensor  # (vocab_size, hidden_size)
    layers: tuple[LayerWeights, ...]
    head: Tensor  # (hidden_size, vocab_size)
    norm: Tensor | None  # (hidden_size,)


def load_weights(
    directory: Path, config: LlamaConfig, *, device: torch.device, dtype: torch.dtype
) -> LlamaWeights:
    """Reads `model.safetensors`, sharded or not, layer by layer.

    Raises:
        UnsupportedCheckpointError: A weight is missing or has another shape than the config says.
    """
    source = _Checkpoint(directory, device)
    hidden, heads = config.hidden_size, config.num_heads * config.head_dim
    kv, inner = config.num_kv_heads * config.head_dim, config.intermediate_size
    # Norm scales multiply the rows of the next matrix. In half precision that would round twice.
    is_folded = dtype == torch.float32

    def take(name: str, *shape: int) -> Tensor:
        # A copy, so that overwriting the mapped file cannot crash a running engine.
        return source.take(name, shape).to(dtype, copy=True)

    def fold(norm: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor | None]:
        if not is_folded:
            return _by_inputs(matrix), norm
        return _by_inputs(matrix * (norm * hidden**0.5)), None

    layers = []
    for i in range(config.num_layers):
        at = f"model.layers.{i}."
        qkv = torch.cat(
            (
                _pair_rotary(take(at + "self_attn.q_proj.weight", heads, hidden), config.head_dim),
                _pair_rotary(take(at + "self_attn.k_proj.weight", kv, hidden), config.head_dim),
                take(at + "self_attn.v_proj.weight", kv, hidden),
            )
        )
        gate_up = torch.cat(
            (
                take(at + "mlp.gate_proj.weight", inner, hidden),
                take(at + "mlp.up_proj.weight", inner, hidden),
            )
        )
        qkv, attention_norm = fold(take(at + "input_layernorm.weight", hidden), qkv)
        gate_up, mlp_norm = fold(take(at + "post_attention_layernorm.weight", hidden), gate_up)
        attention_out = _by_inputs(take(at + "self_attn.o_proj.weight", hidden, heads))
        down = _by_inputs(take(at + "mlp.down_proj.weight", hidden, inner))
        layers.append(LayerWeights(qkv, attention_out, gate_up, down, attention_norm, mlp_norm))
    embedding = take("model.embed_tokens.weight", config.vocab_size, hidden)
    head = (
        embedding
        if config.tie_word_embeddings
        else take("lm_head.weight", config.vocab_size, hidden)
    )
    final_norm = take("model.norm.weight", hidden)
    if is_folded:
        return LlamaWeights(embedding, tuple(layers), *fold(final_norm, head))
    return LlamaWeights(embedding, tuple(layers), head.t(), final_norm)


def random_weights(
    config: LlamaConfig, *, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> LlamaWeights:
    """Draws weights of these sizes: as fast as trained ones, for timing without a checkpoint."""
    generator = torch.Generator(device).manual_seed(seed)
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def draw(inputs: int, outputs: int) -> Tensor:
        matrix = torch.empty(outputs, inputs, device=device, dtype=dtype)
        return _by_inputs(matrix.normal_(std=inputs**-0.5, generator=generator))

    def norm() -> Tensor | None:
        return None if dtype == torch.float32 else torch.ones(hidden, device=device, dtype=dtype)

    layers = tuple(
        LayerWeights(
            draw(hidden, heads + 2 * kv),
            draw(heads, hidden),
            draw(hidden, 2 * inner),
            draw(inner, hidden),
            norm(),
            norm(),
        )
        for _ in range(config.num_layers)
    )
    embedding = draw(config.vocab_size, hidden)
    head = embedding.t() if config.tie_word_embeddings else draw(hidden, config.vocab_size)
    return LlamaWeights(embedding, layers, head, norm())


def _by_inputs(matrix: Tensor) -> Tensor:
    """Turns an (outputs, inputs) matrix into (inputs, outputs), row after row in memory.

    On a CPU, rows that start a multiple of 4 KiB apart evict each other from the cache, so such
    rows get some room between them: a product of 4 to 8 tokens took 1.4 to 1.6 times as long
    without (36 against 23 us for 4 tokens, 128 inputs and 1024 outputs).
    """
    outputs, inputs = matrix.shape
    is_aliased = matrix.device.type == "cpu" and outputs * matrix.element_size() % 4096 == 0
    room = matrix.new_empty(inputs, outputs + _GAP if is_aliased else outputs)
    return room[:, :outputs].copy_(matrix.t())


class _Checkpoint:
    """The tensors of a checkpoint directory, by name."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self._directory, self._device = directory, device
        self._file_by_name = dict(_names(directory))

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Reads one tensor and checks its shape."""
        if name not in self._file_by_name:
            raise UnsupportedCheckpointError(f"{self._directory}: weight {name} is missing")
        path = self._directory / self._file_by_name[name]
        with safe_open(path, framework="pt", device=str(self._device)) as file:
            tensor: Tensor = file.get_tensor(name)
        if tensor.shape != shape:
            raise UnsupportedCheckpointError(
                f"{self._directory}: weight {name} has shape {tuple(tensor.shape)}, "
                f"and config.json says {shape}"
            )
        return tensor


def _names(directory: Path) -> Iterator[tuple[str, str]]:
    """Yields the name of every tensor with its file."""
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        yield from json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
        return
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            yield name, "model.safetensors"


def _pair_rotary(matrix: Tensor, head_dim: int) -> Tensor:
    """Puts the two halves that rotary embedding mixes side by side, head by head.

    Scores do not change, because queries and keys are reordered alike, and a rotation becomes one
    complex product.
    """
    halves = matrix.view(-1, 2, head_dim // 2, matrix.shape[1])
    return halves.transpose(1, 2).reshape(matrix.shape)
