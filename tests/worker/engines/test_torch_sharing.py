"""Branches of one problem read one copy of their prompt, and decode as each does alone."""

from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.base import BranchFinished, BranchRequest, Sampling
from worker.engines.torch import model as model_module
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.engine import TorchEngine

PROMPTS = ["abcdefghijklmnop" * 25, "ponmlkjihgfe" * 30, "aabbccdd"]


@pytest.fixture
def rows_sharing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows attended to a prompt together, each time."""
    seen: list[int] = []
    attend = model_module.attend_after

    def watched(prompt: object, queries: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append(len(queries))
        return attend(prompt, queries, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(model_module, "attend_after", watched)
    return seen


def decode(engine: TorchEngine, requests: list[BranchRequest]) -> list[str]:
    """Decodes branches together and returns their texts."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(requests, events)
    finished = collect(events, len(requests))
    engine.close()
    return [finished[request.branch_id].text for request in requests]


@pytest.mark.parametrize("num_kv_heads", [2, 4])
def test_branches_that_share_a_prompt_decode_as_each_does_alone(
    tmp_path: Path, rows_sharing: list[int], num_kv_heads: int
) -> None:
    target = write_checkpoint(tmp_path / "target", seed=1, num_kv_heads=num_kv_heads)
    draft = write_checkpoint(tmp_path / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    requests = [
        branch(
            f"{prompt}:{i}",
            PROMPTS[prompt],
            num_speculative_tokens=0 if prompt == 0 and i < 8 else 3,
            # They end one after another, so each group shrinks until it is not worth sharing.
            max_tokens=10 + 7 * i,
            sampling=Sampling(temperature=0.9, seed=100 * prompt + i),
        )
        for prompt in range(3)
        for i in range((16, 8, 2)[prompt])
    ]
    together = TorchEngine.load(target, draft, model="tiny", max_num_seqs=24)
    texts = decode(together, requests)
    assert max(rows_sharing) == 8
    rows_sharing.clear()
    alone = TorchEngine.load(target, draft, model="tiny", max_num_seqs=1)
    assert decode(alone, requests) == texts
    assert not rows_sharing
    assert len(set(texts)) == len(texts)


def test_a_prompt_is_shared_in_half_precision_too(rows_sharing: list[int]) -> None:
    engine = TorchEngine.with_random_weights(
        LlamaConfig(256, 32, 64, 2, 4, 2, 8, 512),
        LlamaConfig(256, 16, 32, 1, 2, 1, 8, 512),
        model="random",
        max_num_seqs=16,
        dtype=torch.bfloat16,
    )
    requests = [branch(f"{i}", PROMPTS[0], num_speculative_tokens=i % 2) for i in range(16)]
    decode(engine, requests)
    assert max(rows_sharing) == 8
