"""A minimal Llama in torch whose weights are named and computed as in Hugging Face."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from worker.demo_model.tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCAB_SIZE, write_tokenizer_files

ROPE_THETA = 10_000.0
RMS_NORM_EPS = 1e-5
MAX_POSITION_EMBEDDINGS = 1024


@dataclass(frozen=True)
class LlamaShape:
    """The sizes that tell one Llama from another; there are as many KV heads as heads."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


TARGET_SHAPE = LlamaShape(128, 512, 6, 4)
DRAFT_SHAPE = LlamaShape(96, 384, 1, 3)


@dataclass
class KvCache:
    """Keys and values of every layer, one slot per row and position."""

    keys: Tensor  # (num_layers, num_rows, num_heads, max_tokens, head_dim)
    values: Tensor  # (num_layers, num_rows, num_heads, max_tokens, head_dim)

    @classmethod
    def empty(cls, shape: LlamaShape, num_rows: int, max_tokens: int) -> "KvCache":
        """Allocates a cache of zeros."""
        size = (shape.num_hidden_layers, num_rows, shape.num_attention_heads, max_tokens)
        return cls(torch.zeros(*size, shape.head_dim), torch.zeros(*size, shape.head_dim))

    def keep(self, rows: Tensor) -> "KvCache":
        """Returns a cache with only `rows`, in that order; rows may repeat."""
        return KvCache(self.keys[:, rows], self.values[:, rows])


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: LlamaShape, layer: int) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        self.q_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], step: "Step | None") -> Tensor:
        """Attends over the sequence itself, or with `step` over the cached positions too."""
        num_rows, num_tokens, width = x.shape
        heads = (num_rows, num_tokens, self.shape.num_attention_heads, self.shape.head_dim)
        q = _rotate(self.q_proj(x).view(heads).transpose(1, 2), rope)
        k = _rotate(self.k_proj(x).view(heads).transpose(1, 2), rope)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        if step is None:
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            keys, values = step.write(self.layer, k, v)
            out = functional.scaled_dot_product_attention(q, keys, values, attn_mask=step.mask)
        merged: Tensor = self.o_proj(out.transpose(1, 2).reshape(num_rows, num_tokens, width))
        return merged


class Mlp(nn.Module):
    """The gated feed-forward layer."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Applies SwiGLU."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: LlamaShape, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(shape, layer)
        self.mlp = Mlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=RMS_NORM_EPS)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=RMS_NORM_EPS)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], step: "Step | None") -> Tensor:
        """Applies attention and the feed-forward layer, each on a residual branch."""
        x = x + self.self_attn(self.input_layernorm(x), rope, step)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """The stack of layers; a module of its own only for Hugging Face's weight names."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB_SIZE, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape, i) for i in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=RMS_NORM_EPS)


class Llama(nn.Module):
    """The whole model, from token ids to logits."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        self.lm_head = nn.Linear(shape.hidden_size, VOCAB_SIZE, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.5)
        self.register_buffer("rope", _rope_table(shape.head_dim), persistent=False)
        self.rope: Tensor

    def hidden(self, token_ids: Tensor, step: "Step | None" = None) -> Tensor:
        """Returns the normed last hidden states of (num_rows, num_tokens) token ids."""
        rope = self.rope[:, : token_ids.shape[1]] if step is None else self.rope[:, step.positions]
        if step is not None:
            rope = rope.unsqueeze(2)  # broadcasts over heads
        x = self.model.embed_tokens(token_ids)
        for block in self.model.layers:
            x = block(x, (rope[0], rope[1]), step)
        out: Tensor = self.model.norm(x)
        return out

    def forward(self, token_ids: Tensor, step: "Step | None" = None) -> Tensor:
        """Returns the logits of (num_rows, num_tokens) token ids."""
        logits: Tensor = self.lm_head(self.hidden(token_ids, step))
        return logits


class Step:
    """Where the tokens of one forward pass lie in the cache, and what each may look at."""

    def __init__(self, cache: KvCache, positions: Tensor) -> None:
        self.cache, self.positions = cache, positions  # positions: (num_rows, num_tokens)
        self.num_slots = int(positions.max()) + 1
        slots = torch.arange(self.num_slots)
        self.mask = (slots <= positions[:, :, None])[:, None]  # (num_rows, 1, num_tokens, slots)
        self.rows = torch.arange(positions.shape[0])[:, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values at the positions and returns every slot in use."""
        cached_keys, cached_values = self.cache.keys[layer], self.cache.values[layer]
        cached_keys[self.rows, :, self.positions] = keys.transpose(1, 2)
        cached_values[self.rows, :, self.positions] = values.transpose(1, 2)
        return cached_keys[:, :, : self.num_slots], cached_values[:, :, : self.num_slots]


def _rope_table(head_dim: int) -> Tensor:
    """Cosines and sines of every position, as in rotate-half RoPE (arXiv:2104.09864)."""
    frequencies = ROPE_THETA ** -(torch.arange(0, head_dim, 2).float() / head_dim)
    angles = torch.outer(torch.arange(MAX_POSITION_EMBEDDINGS).float(), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return torch.stack((angles.cos(), angles.sin()))  # (2, max_positions, head_dim)


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Applies RoPE to (num_rows, num_heads, num_tokens, head_dim)."""
    cos, sin = rope
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def hugging_face_config(shape: LlamaShape) -> dict[str, object]:
    """Returns the config.json that makes other libraries load these weights."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_attention_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": RMS_NORM_EPS,
        "rope_theta": ROPE_THETA,
        "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
        "torch_dtype": "float32",
    }


def save(model: Llama, directory: Path) -> None:
    """Writes weights, configs and tokenizer as a Hugging Face model directory."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
    for filename, content in (
        ("config.json", hugging_face_config(model.shape)),
        ("generation_config.json", {"do_sample": True, "temperature": 0.8, "top_p": 1.0, **ids}),
    ):
        (directory / filename).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_tokenizer_files(directory)


def load(directory: Path) -> Llama:
    """Loads a model directory that `save` wrote; every weight must match by name and shape."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    model = Llama(LlamaShape(**{name: config[name] for name in LlamaShape.__annotations__}))
    model.load_state_dict(load_file(directory / "model.safetensors"), strict=True)
    return model.eval()
