"""Writes tiny random Llama checkpoints as Hugging Face model directories."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models
from torch import Tensor


def write_checkpoint(
    directory: Path,
    *,
    seed: int,
    vocab: str = "abcdefghijklmnop",
    hidden_size: int = 32,
    num_layers: int = 2,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    tie_word_embeddings: bool = False,
    logit_scale: float = 3.0,
    eos_token_id: int | None = None,
    num_shards: int = 1,
    max_position_embeddings: int = 4096,
) -> Path:
    """Writes config, weights and a tokenizer with one token per character of `vocab`.

    Args:
        logit_scale: Standard deviation of the logits, roughly; higher is more certain.
    """
    directory.mkdir(parents=True, exist_ok=True)
    head_dim, inner = hidden_size // num_heads, 3 * hidden_size
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocab),
        "hidden_size": hidden_size,
        "intermediate_size": inner,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500.0,
        "max_position_embeddings": max_position_embeddings,
        "tie_word_embeddings": tie_word_embeddings,
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = _weights(
        torch.Generator().manual_seed(seed),
        len(vocab),
        hidden_size,
        inner,
        num_layers,
        num_heads * head_dim,
        num_kv_heads * head_dim,
    )
    if tie_word_embeddings:
        weights["model.embed_tokens.weight"] = weights.pop("lm_head.weight") * logit_scale
    else:
        weights["lm_head.weight"] *= logit_scale
    _save(directory, weights, num_shards)
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(vocab)}, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def _weights(
    generator: torch.Generator,
    vocab_size: int,
    hidden: int,
    inner: int,
    num_layers: int,
    heads: int,
    kv: int,
) -> dict[str, Tensor]:
    def matrix(outputs: int, inputs: int) -> Tensor:
        drawn: Tensor = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
        return drawn

    def norm() -> Tensor:
        return 1 + 0.2 * torch.randn(hidden, generator=generator)

    weights = {
        "model.embed_tokens.weight": matrix(vocab_size, hidden) * hidden**0.5,
        "model.norm.weight": norm(),
        "lm_head.weight": matrix(vocab_size, hidden),
    }
    for i in range(num_layers):
        at = f"model.layers.{i}."
        weights |= {
            at + "input_layernorm.weight": norm(),
            at + "post_attention_layernorm.weight": norm(),
            at + "self_attn.q_proj.weight": 2 * matrix(heads, hidden),
            at + "self_attn.k_proj.weight": 2 * matrix(kv, hidden),
            at + "self_attn.v_proj.weight": matrix(kv, hidden),
            at + "self_attn.o_proj.weight": matrix(hidden, heads),
            at + "mlp.gate_proj.weight": matrix(inner, hidden),
            at + "mlp.up_proj.weight": matrix(inner, hidden),
            at + "mlp.down_proj.weight": matrix(hidden, inner),
        }
    return weights


def _save(directory: Path, weights: dict[str, Tensor], num_shards: int) -> None:
    if num_shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for shard in range(num_shards):
        filename = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        part = {name: weights[name] for name in sorted(weights)[shard::num_shards]}
        save_file(part, directory / filename, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, filename)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
