"""`slackline up` and `down` for real: one machine, real servers, real signals."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.servers import free_port, redis_answers
from infra.state import DataFolder
from tests.replay_files import replay_environment
from tests.stack import Stack, open_folder, running_stack, slackline


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as it:
        yield it


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def processes_of(stack: Stack) -> list[psutil.Process]:
    """The supervisor and everything below it."""
    supervisor = psutil.Process(stack.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def wait_for_the_end_of(processes: list[psutil.Process]) -> None:
    """Fails when one is alive after a while; a zombie that nobody waits for is not."""
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def test_up_runs_on_a_free_port_until_ctrl_c_and_leaves_nothing(
    folder: Path, taken_port: int
) -> None:
    env = replay_environment(folder / "replay")
    with running_stack(folder / "data", "replay", env=env, port=taken_port) as stack:
        assert f"port {taken_port} is taken" in stack.output
        assert stack.running.api_url != f"http://127.0.0.1:{taken_port}"
        children = stack.running.children
        assert set(children) == {"postgres", "redis", "api", "scheduler", "worker-replay"}
        with stack.client() as client:
            assert [worker["name"] for worker in client.workers()] == ["worker-replay"]
        second = subprocess.run(
            slackline("up", "--data", str(folder / "data")), capture_output=True, text=True
        )
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert stack.running.api_url in second.stderr
        processes = processes_of(stack)
        assert stack.stop(signal.SIGINT) == 0
        wait_for_the_end_of(processes)
    assert DataFolder(folder / "data").read() is None


def test_a_worker_that_cannot_start_ends_everything_with_its_words(folder: Path) -> None:
    env = {**os.environ, **replay_environment(folder / "replay")}
    Path(env["SLACKLINE_RECORDINGS"]).unlink()
    up = slackline("up", "--data", str(folder / "data"), "--engine", "replay")
    done = subprocess.run(
        [*up, "--port", str(free_port())], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "worker-replay exited with code 1 during its first start" in done.stdout
    assert "No such file" in done.stdout
    assert DataFolder(folder / "data").read() is None


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_a_killed_supervisor_leaves_nothing_and_its_data_serves_again(folder: Path) -> None:
    env = replay_environment(folder / "replay")
    with running_stack(folder / "data", "replay", env=env) as stack:
        processes = processes_of(stack)
        stack.process.kill()
        stack.process.wait()
        wait_for_the_end_of(processes[1:])
    with running_stack(folder / "data", "replay", env=env) as stack, stack.client() as client:
        assert client.workers()


def test_servers_of_ones_own_are_used_and_left_running_by_down(
    folder: Path, empty_database_url: str, redis_url: str
) -> None:
    env = {
        **replay_environment(folder / "replay"),
        "DATABASE_URL": empty_database_url,
        "REDIS_URL": redis_url,
    }
    down = slackline("down", "--data", str(folder / "data"))
    with running_stack(folder / "data", "replay", env=env) as stack:
        assert set(stack.running.children) == {"api", "scheduler", "worker-replay"}
        assert stack.running.database_url == empty_database_url
        with stack.client() as client:
            assert client.workers()
        stopped = subprocess.run(down, capture_output=True, text=True)
        assert (stopped.returncode, stack.process.wait(timeout=10)) == (0, 0)
    again = subprocess.run(down, capture_output=True, text=True)
    assert again.returncode == 1
    assert "Nothing runs" in again.stderr
    assert not (folder / "data" / "postgres").exists()
    assert redis_answers(redis_url)


def test_a_database_that_does_not_answer_is_named(folder: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    done = subprocess.run(
        slackline("up", "--data", str(folder)),
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "database does not answer" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_engine_is_refused(folder: Path) -> None:
    done = subprocess.run(
        slackline("up", "--data", str(folder), "--engine", "abacus"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert all(engine in done.stderr for engine in ("torch", "vllm", "openai", "replay"))
