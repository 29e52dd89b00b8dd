"""The engine in front of a real OpenAI-compatible server keeps the contract."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest

from scheduler.core.branch_options import PromptFormat
from tests.openai_process import ServerProcess, openai_server
from tests.worker.engines.branches import branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.engines.contract import EngineContract
from worker.engines.base import BranchFinished, FinishReason, Sampling
from worker.engines.openai.engine import OpenAIEngine
from worker.engines.openai.settings import EndpointSettings

PLAIN = PromptFormat.PLAIN
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


GREEDY = Sampling(temperature=0.0)


def test_sampling_options_reach_the_server(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("whole", PROMPTS[0], sampling=GREEDY, max_tokens=40)], events)
    whole = collect(events, 1)["whole"].text
    stop = whole[17:20]
    at = whole.index(stop)
    likeliest = Sampling(temperature=1.5, top_k=1)
    requests = [
        branch("stop", PROMPTS[0], sampling=replace(GREEDY, stop=(stop,)), max_tokens=40),
        branch("top_k", PROMPTS[0], sampling=likeliest, max_tokens=40),
        branch("partial", PROMPTS[0], sampling=GREEDY, max_tokens=30, partial=whole[:10]),
        branch("seed:1", PROMPTS[0], sampling=Sampling(seed=3), max_tokens=40),
        branch("seed:2", PROMPTS[0], sampling=Sampling(seed=3), max_tokens=40),
    ]
    engine.submit(requests, events)
    finished = collect(events, 5)
    assert finished["stop"].finish_reason is FinishReason.STOP
    assert finished["stop"].text == whole[:at]
    assert finished["stop"].metrics.completion_tokens == at + len(stop)
    assert finished["top_k"].text == whole
    assert finished["partial"].text == whole[10:]
    assert finished["seed:1"].text == finished["seed:2"].text


def test_a_system_prompt_without_a_chat_is_refused_here(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPTS[0], system_prompt="Be brief.")], events)
    assert "chat template" in str(collect(events, 1)["a"].error)


def test_chats_are_rendered_by_the_server(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", seed=1)
    template = "{% for message in messages %}<{{ message.content }}>{% endfor %}k"
    (target / "chat_template.jinja").write_text(template)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    with openai_server(tmp_path, target, None, "--model", "tiny") as server:
        chat = OpenAIEngine(EndpointSettings(base_url=server.base_url), max_num_seqs=4)
        # The tokenizer drops what it does not know, such as `<`.
        asked = {
            "chat": branch("chat", "efgh"),
            "system": branch("system", "efgh", system_prompt="abc"),
            "partial": branch("partial", "efgh", partial="ab"),
        }
        read = {"chat": "efghk", "system": "abcefghk", "partial": "efghkab"}
        requests = [*asked.values()]
        requests += [branch(f"as {i}", text, prompt_format=PLAIN) for i, text in read.items()]
        chat.submit([replace(r, sampling=GREEDY, max_tokens=20) for r in requests], events)
        finished = collect(events, 6)
        chat.close()
    for name in asked:
        assert finished[name].metrics.completion_tokens == 20
        assert finished[name].text == finished[f"as {name}"].text


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
