"""A whole embedded Slackline as a child process, for tests that need everything at once."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from api.client import Client
from infra.processes import bound
from infra.servers import free_port
from infra.state import DataFolder, Running

START_TIMEOUT_S = 120.0


class Stack:
    """A running `slackline up`."""

    def __init__(self, data: Path, process: subprocess.Popen[str], output: Path) -> None:
        self.data = data
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    @property
    def running(self) -> Running:
        """What it says that it runs."""
        running = DataFolder(self.data).read()
        assert running is not None, self.output
        return running

    def client(self) -> Client:
        """A client of its API, which goes on trying while the API restarts."""
        return Client(self.running.api_url, self.running.api_key, retry_for_s=20.0)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait for a condition; fails with the output when it does not come."""
        give_up_at = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up_at, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.02)

    def kill(self, name: str) -> None:
        """SIGKILL a child."""
        os.kill(self.running.children[name], signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the Postgres user of root can reach, gone at the end.

    Not pytest's own: each session that starts takes its parent away from other users again.
    """
    with tempfile.TemporaryDirectory(prefix="slackline-test-") as folder:
        yield Path(folder)


def slackline(*arguments: str) -> list[str]:
    """The command line of `slackline`, run by this Python."""
    return [sys.executable, "-m", "infra.command", *arguments]


def is_ready(folder: DataFolder, pid: int) -> bool:
    """Whether this supervisor has started everything on the folder."""
    running = folder.read()
    return running is not None and running.pid == pid and running.is_ready


@contextmanager
def running_stack(
    data: Path,
    *engines: str,
    env: Mapping[str, str] | None = None,
    port: int | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Stack]:
    """Run `slackline up` on a folder and a free port, until the end of the block."""
    data.mkdir(parents=True, exist_ok=True)
    output = data / "up.out"
    arguments = [argument for engine in engines for argument in ("--engine", engine)]
    command = slackline("up", "--data", str(data), "--port", str(port or free_port()), *arguments)
    with output.open("w") as file:
        process = subprocess.Popen(
            bound(command, signal.SIGTERM),
            env={**os.environ, **(env or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    stack = Stack(data, process, output)
    try:
        stack.wait_until(lambda: is_ready(DataFolder(data), process.pid), timeout_s)
        yield stack
    finally:
        stack.stop()
