"""Reads a Llama checkpoint's configuration and refuses what the engine cannot compute exactly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnsupportedCheckpointError(ValueError):
    """The checkpoint needs something that the torch engine does not compute."""


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """Sizes and constants of one Llama decoder.

    Attributes:
        eos_token_ids: Token ids that end a branch; empty when the checkpoint names none.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    eos_token_ids: frozenset[int] = frozenset()

    @property
    def queries_per_kv_head(self) -> int:
        """Query heads that share one KV head."""
        return self.num_heads // self.num_kv_heads

    @classmethod
    def read(cls, directory: Path) -> "LlamaConfig":
        """Reads `config.json` and, where present, `generation_config.json`.

        Raises:
            UnsupportedCheckpointError: The model is no plain Llama; the message says why.
            FileNotFoundError: The directory has no `config.json`.
        """
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        generation_path = directory / "generation_config.json"
        generation = (
            json.loads(generation_path.read_text(encoding="utf-8"))
            if generation_path.is_file()
            else {}
        )
        _refuse_unsupported(config, directory)
        eos = generation.get("eos_token_id", config.get("eos_token_id"))
        num_heads = config["num_attention_heads"]
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
            max_position_embeddings=config["max_position_embeddings"],
            rope_theta=float(_rope(config).get("rope_theta", config.get("rope_theta", 10_000.0))),
            rms_norm_eps=config["rms_norm_eps"],
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            eos_token_ids=frozenset(
                eos if isinstance(eos, list) else () if eos is None else (eos,)
            ),
        )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings: `rope_parameters` since transformers 5, `rope_scaling` before."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _refuse_unsupported(config: Mapping[str, Any], directory: Path) -> None:
    rope_type = _rope(config).get("rope_type", _rope(config).get("type", "default"))
    checks = (
        ("model_type", config.get("model_type"), "llama"),
        ("rope scaling", rope_type, "default"),
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("attention_bias", config.get("attention_bias", False), False),
        ("mlp_bias", config.get("mlp_bias", False), False),
        ("quantization_config", config.get("quantization_config"), None),
    )
    for name, value, supported in checks:
        if value != supported:
            raise UnsupportedCheckpointError(
                f"{directory}: {name} is {value!r}, and the torch engine serves {supported!r} "
                "only; serve this checkpoint with the vllm engine"
            )


NAMED_SHAPES: dict[str, tuple[LlamaConfig, LlamaConfig]] = {
    "3b": (
        LlamaConfig(128_256, 3072, 8192, 28, 24, 8, 128, 8192, tie_word_embeddings=True),
        LlamaConfig(128_256, 1024, 4096, 4, 16, 8, 64, 8192, tie_word_embeddings=True),
    ),
    "14b": (
        LlamaConfig(152_064, 5120, 13_824, 48, 40, 8, 128, 8192),
        LlamaConfig(152_064, 896, 4864, 24, 14, 2, 64, 8192, tie_word_embeddings=True),
    ),
}
"""Target and draft sizes for timing with random weights: those of Llama 3.2 3B with a 4-layer
draft, and of Qwen2.5 14B with the 0.5B model as draft (biases left out)."""
