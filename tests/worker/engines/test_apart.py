"""An engine in a process of its own keeps the contract, and its end is noticed on both sides."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest
import structlog

from tests.worker.engines.branches import PATIENCE_S, Events, assert_silent, branch, collect
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.engines.contract import LONG_TOKENS, EngineContract
from worker.engines.apart.engine import EngineApart, EngineDiedError
from worker.engines.base import FinishReason
from worker.engines.torch.engine import TorchEngine

PROMPT = "abcdefgh"


def load(*folders: Path) -> TorchEngine:
    """Loads a tiny pair; runs in the child."""
    return TorchEngine.load(*folders, model="tiny", max_num_seqs=4, seed=0)


def refuse() -> TorchEngine:
    """Says what is wrong instead of loading."""
    raise ValueError("the checkpoint is of another kind")


def vanish() -> TorchEngine:
    """Ends the process instead of loading."""
    os._exit(7)


def load_broken(*folders: Path) -> TorchEngine:
    """An engine whose every step raises and is logged."""
    engine = load(*folders)
    engine._loop._serving._step = None  # type: ignore[method-assign,assignment]
    return engine


def load_telling(*folders: Path) -> TorchEngine:
    """Logs a line before it is loaded."""
    structlog.get_logger().warning("checkpoint.odd", why="for the test")
    return load(*folders)


class OddError(Exception):
    """Cannot be made from what it says."""

    def __init__(self, what: str, where: int) -> None:
        super().__init__(f"{what} at {where}")


def refuse_oddly() -> TorchEngine:
    """Raises what does not survive the way to the worker."""
    raise OddError("a tensor is missing", 7)


def load_failing(*folders: Path) -> TorchEngine:
    """An engine that raises when it is given branches."""
    engine = load(*folders)

    def fail(**_arguments: object) -> None:
        raise ZeroDivisionError("no rows")

    engine.submit = fail  # type: ignore[method-assign,assignment]
    return engine


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    target = write_checkpoint(root / "target", seed=1)
    draft = write_checkpoint(root / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    return target, draft


@dataclass
class Deaths:
    """Reasons that were told."""

    reasons: list[str]


@pytest.fixture
def deaths() -> Deaths:
    return Deaths([])


@pytest.fixture
def engine(folders: tuple[Path, Path], deaths: Deaths) -> Iterator[EngineApart]:
    engine = EngineApart(partial(load, *folders), on_death=deaths.reasons.append)
    yield engine
    engine.close()


@pytest.fixture
def prompts() -> list[str]:
    return [PROMPT, "ponmlkj"]


class TestEngineApart(EngineContract):
    """The contract, on the torch engine in a child process."""


def killed(engine: EngineApart, deaths: Deaths) -> None:
    """Kills the child and waits until that is noticed."""
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    give_up_at = time.monotonic() + PATIENCE_S
    while not deaths.reasons:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_a_branch_id_that_is_still_held_is_refused(engine: EngineApart) -> None:
    first, second = Events(), Events()
    engine.submit([branch("a", PROMPT, max_tokens=LONG_TOKENS)], first)
    engine.submit([branch("a", PROMPT)], second)
    refused = collect(second, 1)["a"]
    assert refused.finish_reason is FinishReason.ERROR
    assert "already here" in str(refused.error)
    engine.abort(["a"])
    assert collect(first, 1)["a"].finish_reason is FinishReason.ABORT


def test_branches_of_a_dead_engine_are_held_until_they_are_aborted(
    engine: EngineApart, deaths: Deaths
) -> None:
    events: Events = SimpleQueue()
    engine.submit([branch(i, PROMPT, max_tokens=LONG_TOKENS) for i in "abc"], events)
    before = engine.totals()
    killed(engine, deaths)
    assert deaths.reasons == ["its process ended with exit status -9"]
    assert_silent(events)
    engine.submit([branch("late", PROMPT)], events)
    assert_silent(events)
    assert engine.totals() == before
    with pytest.raises(EngineDiedError):
        engine.measure_prefill(prompt_tokens=8)
    engine.abort(["a", "late", "never seen"])
    assert {e.finish_reason for e in collect(events, 2).values()} == {FinishReason.ABORT}
    engine.close()
    assert collect(events, 2).keys() == {"b", "c"}
    assert len(deaths.reasons) == 1


def test_an_engine_that_is_closed_has_not_died(engine: EngineApart, deaths: Deaths) -> None:
    engine.close()
    assert not psutil.pid_exists(engine.pid or 0)
    assert deaths.reasons == []


def test_what_loading_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="the checkpoint is of another kind"):
        EngineApart(refuse)
    with pytest.raises(EngineDiedError, match="exit status 7"):
        EngineApart(vanish)


def test_the_log_of_the_child_is_that_of_the_worker(folders: tuple[Path, Path]) -> None:
    engine = EngineApart(partial(load_broken, *folders))
    events: Events = SimpleQueue()
    with structlog.testing.capture_logs() as lines:
        engine.submit([branch("a", PROMPT)], events)
        assert collect(events, 1)["a"].finish_reason is FinishReason.ERROR
        engine.close()
    [line] = lines
    assert (line["event"], line["log_level"]) == ("engine.step_failed", "error")
    assert "TypeError" in line["exception"]


def test_the_child_dies_with_a_killed_worker(folders: tuple[Path, Path]) -> None:
    program = (
        "import time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from queue import SimpleQueue\n"
        "from tests.worker.engines.branches import branch\n"
        "from tests.worker.engines.test_apart import load\n"
        "from worker.engines.apart.engine import EngineApart\n"
        "if __name__ == '__main__':\n"
        f"    e = EngineApart(partial(load, *map(Path, {list(map(str, folders))!r})))\n"
        f"    e.submit([branch('a', 'abc', max_tokens={LONG_TOKENS})], SimpleQueue())\n"
        "    print(e.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=PATIENCE_S)
    assert alive == []


def test_what_an_engine_logs_while_it_is_loaded_is_not_its_spec(folders: tuple[Path, Path]) -> None:
    with structlog.testing.capture_logs() as lines:
        engine = EngineApart(partial(load_telling, *folders))
    try:
        assert engine.spec.model == "tiny"
        assert [line["event"] for line in lines] == ["checkpoint.odd"]
    finally:
        engine.close()


def test_an_error_that_cannot_be_sent_still_says_what_is_wrong() -> None:
    with pytest.raises(RuntimeError, match="OddError: a tensor is missing at 7"):
        EngineApart(refuse_oddly)


def test_branches_that_the_engine_does_not_take_fail_with_its_reason(
    folders: tuple[Path, Path],
) -> None:
    engine = EngineApart(partial(load_failing, *folders))
    events: Events = SimpleQueue()
    with structlog.testing.capture_logs() as lines:
        engine.submit([branch("a", PROMPT), branch("b", PROMPT)], events)
        ended = collect(events, 2)
        engine.close()
    assert {e.finish_reason for e in ended.values()} == {FinishReason.ERROR}
    assert {e.error for e in ended.values()} == {"no rows"}
    [line] = lines
    assert (line["event"], line["method"]) == ("engine.call_failed", "submit")


def test_signals_to_the_group_of_processes_leave_the_engine_to_the_worker(
    engine: EngineApart, deaths: Deaths
) -> None:
    assert engine.pid is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(engine.pid, number)
    events: Events = SimpleQueue()
    engine.submit([branch("a", PROMPT)], events)
    assert collect(events, 1)["a"].finish_reason is not FinishReason.ERROR
    assert deaths.reasons == []


def test_an_engine_that_is_stuck_holds_up_neither_heartbeat_nor_end(engine: EngineApart) -> None:
    before = engine.totals()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    # More than the pipe holds, so that this call stays on its way.
    large = [branch(str(number), "a" * 1000) for number in range(2000)]
    stuck = threading.Thread(target=engine.submit, args=(large, SimpleQueue()))
    stuck.start()
    began_s = time.monotonic()
    assert engine.totals() == before
    engine.close()
    assert time.monotonic() - began_s < PATIENCE_S
    stuck.join(PATIENCE_S)
    assert not stuck.is_alive()
    assert not psutil.pid_exists(engine.pid)


def test_a_message_that_cannot_be_read_ends_the_engine(engine: EngineApart, deaths: Deaths) -> None:
    events: Events = SimpleQueue()
    engine.submit([branch("a", PROMPT, max_tokens=4)], events)
    # As if the child told of a branch that nobody gave it.
    engine._held.clear()
    give_up_at = time.monotonic() + PATIENCE_S
    while not deaths.reasons:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    assert not psutil.pid_exists(engine.pid or 0)


def test_a_worker_that_nobody_closed_ends_with_its_child(folders: tuple[Path, Path]) -> None:
    program = (
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from tests.worker.engines.test_apart import load\n"
        "from worker.engines.apart.engine import EngineApart\n"
        "if __name__ == '__main__':\n"
        f"    EngineApart(partial(load, *map(Path, {list(map(str, folders))!r})))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0
