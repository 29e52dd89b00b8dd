"""The torch engine against transformers on the same checkpoints."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch

from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.base import BranchFinished, Sampling
from worker.engines.torch.config import LlamaConfig, UnsupportedCheckpointError
from worker.engines.torch.decoder import Decoder
from worker.engines.torch.engine import TorchEngine
from worker.engines.torch.model import LlamaModel
from worker.engines.torch.weights import load_weights

PROMPTS = ["abcdefgh", "ponmlkj", "aabbccddeeffgghhiijj", "k"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    yield
    if before is None:
        del os.environ["HF_HUB_OFFLINE"]
    else:
        os.environ["HF_HUB_OFFLINE"] = before


def load_reference(directory: Path) -> Any:
    """Loads a checkpoint with transformers in float32."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    "shape",
    [
        {"num_kv_heads": 4},
        {"num_kv_heads": 2},
        {"num_kv_heads": 1, "tie_word_embeddings": True},
        {"num_kv_heads": 2, "num_shards": 3},
    ],
    ids=str,
)
@torch.inference_mode()
def test_logits_equal_those_of_transformers(tmp_path: Path, shape: dict[str, Any]) -> None:
    directory = write_checkpoint(tmp_path, seed=5, **shape)
    config = LlamaConfig.read(directory)
    weights = load_weights(directory, config, device=CPU, dtype=torch.float32)
    decoder = Decoder(LlamaModel(config, weights, 64), None, max_num_seqs=1, max_tokens=64)
    token_ids = torch.randint(16, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    expected = load_reference(directory)(torch.tensor([token_ids])).logits[0]
    for length in (1, 2, 17, 30):
        logits = decoder.prefill(token_ids[:length]).logits[0]
        torch.testing.assert_close(logits, expected[length - 1], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_half_precision_stays_close_to_full_precision(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, seed=5)
    config = LlamaConfig.read(directory)
    logits = []
    for dtype in (torch.float32, torch.bfloat16):
        weights = load_weights(directory, config, device=CPU, dtype=dtype)
        decoder = Decoder(LlamaModel(config, weights, 64), None, max_num_seqs=1, max_tokens=64)
        logits.append(decoder.prefill([1, 2, 3, 4, 5]).logits[0])
    assert (logits[0] - logits[1]).abs().max() < 0.02 * logits[0].abs().max()


@pytest.mark.parametrize("num_kv_heads", [1, 4])
def test_greedy_branches_equal_transformers_generate_at_every_draft_length(
    tmp_path: Path, num_kv_heads: int
) -> None:
    target = write_checkpoint(tmp_path / "target", seed=1, num_kv_heads=num_kv_heads)
    draft = write_checkpoint(tmp_path / "draft", seed=2, hidden_size=16, num_layers=1)
    engine = TorchEngine.load(target, draft, model="tiny", max_num_seqs=36)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    requests = [
        branch(
            f"{prompt}:{k}",
            prompt,
            num_speculative_tokens=k,
            sampling=Sampling(temperature=0.0),
            max_tokens=40,
        )
        for prompt in PROMPTS
        for k in range(9)
    ]
    engine.submit(requests, events)
    finished = collect(events, len(requests))
    engine.close()
    reference = load_reference(target)
    for prompt in PROMPTS:
        token_ids = torch.tensor([["abcdefghijklmnop".index(c) for c in prompt]])
        generated = reference.generate(
            token_ids,
            attention_mask=torch.ones_like(token_ids),
            do_sample=False,
            max_new_tokens=40,
            pad_token_id=0,
        )
        expected = "".join("abcdefghijklmnop"[i] for i in generated[0, len(prompt) :].tolist())
        for k in range(9):
            assert finished[f"{prompt}:{k}"].text == expected, f"draft length {k}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "qwen2"}, "model_type"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope scaling"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope scaling"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_a_checkpoint_it_cannot_compute_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    directory = write_checkpoint(tmp_path, seed=0)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(UnsupportedCheckpointError, match=reason):
        TorchEngine.load(directory, None, model="tiny")


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, seed=0)
    path = directory / "config.json"
    for change, reason in (({"num_hidden_layers": 3}, "missing"), ({"head_dim": 16}, "shape")):
        path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
        with pytest.raises(UnsupportedCheckpointError, match=reason):
            TorchEngine.load(directory, None, model="tiny")


def test_a_draft_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", seed=0)
    draft = write_checkpoint(tmp_path / "draft", seed=0, vocab="abcd")
    with pytest.raises(UnsupportedCheckpointError, match="target's tokenizer"):
        TorchEngine.load(target, draft, model="tiny")


def test_end_of_sequence_ids_come_from_the_generation_config_first(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, seed=0, eos_token_id=3)
    assert LlamaConfig.read(directory).eos_token_ids == {3}
    (directory / "generation_config.json").write_text('{"eos_token_id": [4, 5]}', encoding="utf-8")
    assert LlamaConfig.read(directory).eos_token_ids == {4, 5}
