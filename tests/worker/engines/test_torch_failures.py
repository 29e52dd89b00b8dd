"""What the torch engine does with requests and steps that cannot work."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from scheduler.core.branch_options import PromptFormat
from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.base import BranchFinished, FinishReason, Sampling
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.engine import TorchEngine
from worker.engines.torch.text import TokenizerText
from worker.engines.torch.weights import load_weights

PROMPT = "abcdefgh"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    target = write_checkpoint(root / "target", seed=1)
    draft = write_checkpoint(root / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    return target, draft


@pytest.fixture
def engine(checkpoints: tuple[Path, Path]) -> Iterator[TorchEngine]:
    engine = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=4, seed=0)
    yield engine
    engine.close()


def broken_draft_engine(target: Path, draft: Path) -> TorchEngine:
    """An engine whose every speculative step raises."""
    config, draft_config = LlamaConfig.read(target), LlamaConfig.read(draft)
    weights = load_weights(draft, draft_config, device=CPU, dtype=torch.float32)
    return TorchEngine(
        (config, load_weights(target, config, device=CPU, dtype=torch.float32)),
        (draft_config, dataclasses.replace(weights, head=weights.head[1:])),
        TokenizerText(target),
        model="tiny",
        max_num_seqs=4,
    )


def decodes(engine: TorchEngine, branch_id: str) -> bool:
    """Whether the engine still decodes a branch."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch(branch_id, PROMPT)], events)
    return len(collect(events, 1)[branch_id].text) == 6


def test_a_step_that_raises_fails_its_branches_and_the_engine_goes_on(
    checkpoints: tuple[Path, Path],
) -> None:
    engine = broken_draft_engine(*checkpoints)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    for attempt in range(4):
        engine.submit([branch(f"bad:{attempt}", PROMPT, num_speculative_tokens=2)], events)
        failed = collect(events, 1)[f"bad:{attempt}"]
        assert failed.finish_reason == FinishReason.ERROR
        assert "the step failed" in str(failed.error)
        assert decodes(engine, f"good:{attempt}")
    engine.close()


def test_an_engine_whose_steps_keep_raising_refuses_everything(
    checkpoints: tuple[Path, Path],
) -> None:
    engine = broken_draft_engine(*checkpoints)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    for attempt in range(3):
        engine.submit([branch(f"bad:{attempt}", PROMPT, num_speculative_tokens=2)], events)
        collect(events, 1)
    engine.submit([branch("good", PROMPT)], events)
    refused = collect(events, 1)["good"]
    assert refused.finish_reason == FinishReason.ERROR
    assert "broken" in str(refused.error)
    engine.close()


def test_a_branch_id_that_is_still_held_is_refused(engine: TorchEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPT, max_tokens=1000)], events)
    second: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPT)], second)
    assert collect(second, 1)["a"].finish_reason == FinishReason.ERROR
    engine.abort(["a"])
    assert collect(events, 1)["a"].finish_reason == FinishReason.ABORT


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 0},
        {"sampling": Sampling(temperature=-0.1)},
        {"sampling": Sampling(top_p=0.0)},
        {"sampling": Sampling(top_p=1.5)},
        {"num_speculative_tokens": -1},
        {"sampling": Sampling(top_k=0)},
        {"sampling": Sampling(stop=("",))},
        {"sampling": Sampling(thinking_token_budget=5)},
        {"prompt_format": PromptFormat.CHAT},
        {"system_prompt": "Be brief."},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(engine: TorchEngine, change: dict[str, object]) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPT, **change)], events)
    assert collect(events, 1)["a"].finish_reason == FinishReason.ERROR


def test_a_completion_that_cannot_be_decoded_is_an_error_of_its_branch_only(
    checkpoints: tuple[Path, Path],
) -> None:
    class OneCompletion(TokenizerText):
        def decode(self, token_ids: Sequence[int]) -> str:
            if len(token_ids) != 6:
                raise UnicodeError("no such character")
            return super().decode(token_ids)

    config = LlamaConfig.read(checkpoints[0])
    weights = load_weights(checkpoints[0], config, device=CPU, dtype=torch.float32)
    text = OneCompletion(checkpoints[0])
    engine = TorchEngine((config, weights), None, text, model="tiny", max_num_seqs=4)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("bad", PROMPT, max_tokens=5), branch("good", PROMPT)], events)
    finished = collect(events, 2)
    assert finished["bad"].finish_reason == FinishReason.ERROR
    assert "tokenizer.json" in str(finished["bad"].error)
    assert finished["good"].finish_reason == FinishReason.LENGTH
    engine.close()
