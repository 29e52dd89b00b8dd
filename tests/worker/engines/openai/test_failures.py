"""What the endpoint engine does when the server is away, refuses or breaks off."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from infra.servers import free_port
from scheduler.core.branch_options import PromptFormat
from tests.openai_process import ServerProcess, openai_server
from tests.worker.engines.branches import assert_silent, branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.recorded import wait_until
from worker.engines.base import BranchFinished, FinishReason
from worker.engines.openai.endpoint import EndpointError
from worker.engines.openai.engine import OpenAIEngine
from worker.engines.openai.settings import EndpointSettings

PROMPT = "abcdefgh"
KEY = "a-key"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "target", seed=1)


@pytest.fixture(scope="module")
def guarded(checkpoint: Path) -> Iterator[ServerProcess]:
    """A server that asks for a key."""
    with openai_server(
        checkpoint.parent, checkpoint, None, "--model", "tiny", "--api-key", KEY
    ) as running:
        yield running


def settings(url: str, **changes: object) -> EndpointSettings:
    return EndpointSettings.model_validate(
        {"base_url": url, "api": "completions", "api_key": KEY, "retry_s": 1.0} | changes
    )


@pytest.fixture
def engine(guarded: ServerProcess) -> Iterator[OpenAIEngine]:
    made = OpenAIEngine(settings(guarded.base_url), max_num_seqs=4)
    yield made
    made.close()


def test_a_server_that_is_away_is_named_with_the_setting_to_check() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(EndpointError, match=rf"no answer.*{url}.*--base-url"):
        OpenAIEngine(settings(url))


def test_an_unknown_model_is_refused_with_those_that_there_are(guarded: ServerProcess) -> None:
    with pytest.raises(EndpointError, match=r"'huge'.*--model.*'tiny'"):
        OpenAIEngine(settings(guarded.base_url), model="huge")


def test_a_wrong_key_is_refused_with_the_variable_to_set(guarded: ServerProcess) -> None:
    with pytest.raises(EndpointError, match=r"401.*SLACKLINE_ENDPOINT__API_KEY"):
        OpenAIEngine(settings(guarded.base_url, api_key="wrong"))


def test_an_address_that_is_no_api_is_refused(guarded: ServerProcess) -> None:
    with pytest.raises(EndpointError, match=r"404.*base URL"):
        OpenAIEngine(settings(f"{guarded.url}/elsewhere"))


def test_a_model_without_a_chat_template_says_what_to_set(guarded: ServerProcess) -> None:
    with pytest.raises(EndpointError, match=r"chat template.*--api completions"):
        OpenAIEngine(settings(guarded.base_url, api="chat"))


def test_an_address_without_a_path_gets_one_and_a_wrong_one_is_refused() -> None:
    assert settings("http://host:8000/").base_url == "http://host:8000/v1"
    assert settings("https://host/llm/v1/").base_url == "https://host/llm/v1"
    with pytest.raises(ValueError, match="no address"):
        settings("host:8000")


def test_a_prompt_beyond_the_context_fails_alone_with_the_servers_words(
    engine: OpenAIEngine,
) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("long", PROMPT * 600), branch("fine", PROMPT)], events)
    finished = collect(events, 2)
    assert finished["fine"].finish_reason is FinishReason.LENGTH
    assert finished["long"].finish_reason is FinishReason.ERROR
    assert "maximum context length is 4096" in str(finished["long"].error)
    assert finished["long"].metrics.started_at is None


def test_a_chat_that_the_server_refuses_fails_alone(engine: OpenAIEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(
        [branch("chat", PROMPT, prompt_format=PromptFormat.CHAT), branch("fine", PROMPT)], events
    )
    finished = collect(events, 2)
    assert finished["fine"].finish_reason is FinishReason.LENGTH
    assert "chat template" in str(finished["chat"].error)


def test_a_server_that_turns_requests_away_for_a_while_is_asked_again(
    engine: OpenAIEngine, guarded: ServerProcess
) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    guarded.fail(3)
    engine.submit([branch("a", PROMPT), branch("b", PROMPT)], events)
    reasons = {event.finish_reason for event in collect(events, 2).values()}
    assert reasons == {FinishReason.LENGTH}


def test_a_server_that_dies_fails_each_branch_once_and_one_that_returns_serves_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    options = ("--model", "tiny", "--api-key", KEY)
    port = free_port()
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    with openai_server(tmp_path, checkpoint, None, *options, port=port) as server:
        made = OpenAIEngine(settings(server.base_url, retry_s=0.5), max_num_seqs=2)
        made.submit([branch(f"{i}", PROMPT, max_tokens=4000) for i in range(3)], events)
        wait_until(lambda: server.num_running() == 2)
        server.kill()
    failed = collect(events, 3)
    assert {event.finish_reason for event in failed.values()} == {FinishReason.ERROR}
    assert all("--base-url" in str(event.error) for event in failed.values())
    assert_silent(events)
    made.submit([branch("late", PROMPT)], events)
    assert collect(events, 1)["late"].finish_reason is FinishReason.ERROR
    with openai_server(tmp_path, checkpoint, None, *options, port=port):
        made.submit([branch("again", PROMPT)], events)
        assert collect(events, 1)["again"].finish_reason is FinishReason.LENGTH
    made.close()


def test_an_abort_and_a_deadline_reach_the_server(
    engine: OpenAIEngine, guarded: ServerProcess
) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    engine.submit(
        [
            branch("abort", PROMPT, max_tokens=4000),
            branch("deadline", PROMPT, max_tokens=4000, deadline_at=soon),
        ],
        events,
    )
    wait_until(lambda: guarded.num_running() == 2)
    engine.abort(["abort"])
    reasons = {event.finish_reason for event in collect(events, 2).values()}
    assert reasons == {FinishReason.ABORT}
    wait_until(lambda: guarded.num_running() == 0)
