"""The torch engine keeps the contract and computes what transformers computes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch

from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.engines.contract import EngineContract
from worker.engines.base import BranchFinished, FinishReason, Sampling
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.engine import TorchEngine

PROMPTS = ["abcdefgh", "ponmlkj", "aabbccddeeffgghhiijj", "k"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target with shared KV heads and a smaller draft."""
    root = tmp_path_factory.mktemp("checkpoints")
    target = write_checkpoint(root / "target", seed=1)
    draft = write_checkpoint(root / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    return target, draft


@pytest.fixture
def engine(checkpoints: tuple[Path, Path]) -> Iterator[TorchEngine]:
    engine = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=4, seed=0)
    yield engine
    engine.close()


@pytest.fixture
def prompts() -> list[str]:
    return PROMPTS


class TestTorchEngine(EngineContract):
    """The contract, on a tiny random pair of models."""


def texts(engine: TorchEngine, *requests: object) -> list[str]:
    """Decodes requests together and returns their texts in order."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(requests, events)  # type: ignore[arg-type]
    finished = collect(events, len(requests))
    return [finished[request.branch_id].text for request in requests]  # type: ignore[attr-defined]


GREEDY = Sampling(temperature=0.0)


def test_branches_of_mixed_contexts_decode_together_as_each_does_alone(
    checkpoints: tuple[Path, Path],
) -> None:
    # Enough rows for several segments, which trade places as their contexts grow.
    requests = [
        branch(
            f"{i}",
            ("abcdefghijklmnop" * 20)[i : i + 1 + 37 * i % 260],
            num_speculative_tokens=(0, 3, 3)[i % 3],
            max_tokens=20 + 29 * i % 150,
            sampling=GREEDY,
        )
        for i in range(40)
    ]
    together = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=20)
    alone = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=1)
    assert texts(together, *requests) == texts(alone, *requests)
    together.close()
    alone.close()


def test_greedy_branches_agree_whatever_their_draft_lengths_in_one_batch(
    checkpoints: tuple[Path, Path],
) -> None:
    engine = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=36)
    try:
        outputs = texts(
            engine,
            *(
                branch(
                    f"{prompt}:{k}",
                    prompt,
                    num_speculative_tokens=k,
                    sampling=GREEDY,
                    max_tokens=40,
                )
                for k in range(9)
                for prompt in PROMPTS
            ),
        )
    finally:
        engine.close()
    assert all(len(output) == 40 for output in outputs)
    for i, _ in enumerate(PROMPTS):
        assert len(set(outputs[i :: len(PROMPTS)])) == 1


def test_a_seeded_branch_repeats_alone_and_in_any_company(engine: TorchEngine) -> None:
    def seeded(branch_id: str, seed: int, k: int) -> object:
        sampling = Sampling(temperature=0.9, top_p=0.95, seed=seed)
        return branch(
            branch_id, PROMPTS[0], sampling=sampling, num_speculative_tokens=k, max_tokens=60
        )

    for k in (0, 3):
        [alone] = texts(engine, seeded("alone", 7, k))
        others = (branch(f"other:{j}", PROMPTS[j], num_speculative_tokens=j * 4) for j in range(3))
        assert texts(engine, *others, seeded("again", 7, k))[-1] == alone
        assert texts(engine, seeded("else", 8, k)) != [alone]


def test_a_branch_stops_at_the_end_of_sequence_token_and_counts_it(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", seed=3, eos_token_id=5)
    draft = write_checkpoint(tmp_path / "draft", seed=3, eos_token_id=5)
    engine = TorchEngine.load(target, draft, model="tiny", max_num_seqs=16)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [
            branch(f"{k}:{i}", PROMPTS[0], num_speculative_tokens=k, max_tokens=200)
            for k in (0, 4)
            for i in range(8)
        ],
        events,
    )
    for event in collect(events, 16).values():
        assert event.finish_reason == FinishReason.STOP
        assert event.text.endswith("f")
        assert event.text.count("f") == 1
        assert len(event.text) == event.metrics.completion_tokens
        metrics = event.metrics
        yielded = metrics.num_steps + sum(metrics.accepted_by_position)
        assert yielded <= metrics.completion_tokens <= yielded + 1
    engine.close()


@pytest.mark.parametrize("k", [0, 4])
def test_a_branch_ends_before_its_stop_string(engine: TorchEngine, k: int) -> None:
    [whole] = texts(engine, branch("whole", PROMPTS[0], sampling=GREEDY, max_tokens=40))
    # It begins and ends inside of drafts, and a longer one that never comes changes nothing.
    stop = whole[17:20]
    at = whole.index(stop)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    sampling = Sampling(temperature=0.0, stop=(stop, "never to be seen"))
    engine.submit(
        [branch("a", PROMPTS[0], sampling=sampling, max_tokens=40, num_speculative_tokens=k)],
        events,
    )
    event = collect(events, 1)["a"]
    assert (event.finish_reason, event.text) == (FinishReason.STOP, whole[:at])
    assert event.metrics.completion_tokens == at + len(stop)


def test_a_completion_goes_on_from_what_was_given(engine: TorchEngine) -> None:
    [whole] = texts(engine, branch("whole", PROMPTS[0], sampling=GREEDY, max_tokens=30))
    [rest] = texts(
        engine, branch("b", PROMPTS[0], sampling=GREEDY, max_tokens=20, partial=whole[:10])
    )
    assert rest == whole[10:]


def test_a_branch_ends_at_the_model_length(checkpoints: tuple[Path, Path]) -> None:
    engine = TorchEngine.load(*checkpoints, model="tiny", max_num_seqs=4, max_model_len=32)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [branch(f"{k}", PROMPTS[0], num_speculative_tokens=k, max_tokens=100) for k in (0, 8)],
        events,
    )
    for event in collect(events, 2).values():
        assert event.finish_reason == FinishReason.LENGTH
        assert event.metrics.completion_tokens == 32 - len(PROMPTS[0])
    engine.close()


def test_without_a_draft_only_draft_length_zero_is_served(checkpoints: tuple[Path, Path]) -> None:
    engine = TorchEngine.load(checkpoints[0], None, model="tiny", max_num_seqs=4)
    assert engine.spec.draft_lengths == (0,)
    assert len(texts(engine, branch("a", PROMPTS[0]))[0]) == 6
    engine.close()


def test_an_idle_engine_uses_no_processor_time(engine: TorchEngine) -> None:
    texts(engine, branch("a", PROMPTS[0]))
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def test_steps_and_prefills_are_timed_on_an_idle_engine(engine: TorchEngine) -> None:
    steps = engine.measure_step(rows=3, num_speculative_tokens=4, context_tokens=90, repeats=5)
    prefills = engine.measure_prefill(prompt_tokens=50, repeats=2)
    assert (len(steps), len(prefills)) == (5, 2)
    assert all(0 < seconds < 10 for seconds in (*steps, *prefills))
    with pytest.raises(ValueError, match="outside"):
        engine.measure_step(rows=5, num_speculative_tokens=0, context_tokens=90)
    assert len(texts(engine, branch("a", PROMPTS[0]))[0]) == 6


def test_a_busy_or_closed_engine_refuses_to_be_timed(engine: TorchEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPTS[0], max_tokens=2000)], events)
    with pytest.raises(RuntimeError, match="idle"):
        engine.measure_prefill(prompt_tokens=8)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.measure_prefill(prompt_tokens=8)


def test_closing_ends_the_decode_thread(engine: TorchEngine) -> None:
    engine.close()
    assert "torch-engine" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_random_weights_decode_without_a_checkpoint(dtype: torch.dtype) -> None:
    target = LlamaConfig(256, 32, 64, 2, 4, 2, 8, 128)
    draft = LlamaConfig(256, 16, 32, 1, 2, 1, 8, 128, tie_word_embeddings=True)
    engine = TorchEngine.with_random_weights(
        target, draft, model="random", max_num_seqs=4, dtype=dtype
    )
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [branch(f"{k}", "a prompt of bytes", num_speculative_tokens=k) for k in (0, 1, 3, 8)],
        events,
    )
    for event in collect(events, 4).values():
        assert event.finish_reason == FinishReason.LENGTH
        assert event.metrics.completion_tokens == 6
    engine.close()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_greedy_branches_agree_between_cpu_and_cuda(checkpoints: tuple[Path, Path]) -> None:
    outputs = []
    for device in ("cpu", "cuda"):
        engine = TorchEngine.load(
            *checkpoints, model="tiny", max_num_seqs=4, device=device, dtype=torch.float32
        )
        outputs.append(
            texts(
                engine,
                *(
                    branch(f"{k}", PROMPTS[0], num_speculative_tokens=k, sampling=GREEDY)
                    for k in (0, 2, 5, 8)
                ),
            )
        )
        engine.close()
    assert outputs[0] == outputs[1]
