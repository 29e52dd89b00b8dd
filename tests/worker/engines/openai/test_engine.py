"""The engine in front of a real OpenAI-compatible server keeps the contract."""

from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from tests.openai_process import ServerProcess, openai_server
from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.engines.contract import EngineContract
from worker.engines.base import BranchFinished, FinishReason
from worker.engines.openai.engine import OpenAIEngine
from worker.engines.openai.settings import EndpointSettings

PROMPTS = ["abcdefgh", "ponmlkj", "aabbccddeeffgghhiijj", "k"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("server")
    target = write_checkpoint(root / "target", seed=1)
    draft = write_checkpoint(root / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    with openai_server(root, target, draft, "--model", "tiny") as running:
        yield running


@pytest.fixture
def engine(server: ServerProcess) -> Iterator[OpenAIEngine]:
    settings = EndpointSettings(
        base_url=server.base_url,
        api="completions",
        num_speculative_tokens=4,
        draft_per_branch=True,
        send_priority=True,
    )
    made = OpenAIEngine(settings, max_num_seqs=4)
    yield made
    made.close()


@pytest.fixture
def prompts() -> list[str]:
    return PROMPTS


class TestOpenAIEngine(EngineContract):
    """The contract, over HTTP to a tiny random pair of models."""


def test_a_branch_streams_over_http(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPTS[0], max_tokens=20)], events)
    event = collect(events, 1)["a"]
    assert event.finish_reason is FinishReason.LENGTH
    assert len(event.text) == event.metrics.completion_tokens == 20
    assert event.metrics.prompt_tokens == len(PROMPTS[0])


def test_steps_and_prefills_are_timed_over_http(engine: OpenAIEngine) -> None:
    steps = engine.measure_step(rows=3, num_speculative_tokens=4, context_tokens=90, repeats=5)
    prefills = engine.measure_prefill(prompt_tokens=50, repeats=2)
    assert (len(steps), len(prefills)) == (5, 2)
    assert all(0 < seconds < 10 for seconds in (*steps, *prefills))


def test_a_busy_or_closed_engine_refuses_to_be_timed(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPTS[0], max_tokens=2000)], events)
    with pytest.raises(RuntimeError, match="idle"):
        engine.measure_prefill(prompt_tokens=8, repeats=1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.measure_prefill(prompt_tokens=8, repeats=1)
