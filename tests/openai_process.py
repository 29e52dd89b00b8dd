"""Starts the OpenAI-compatible test server as a child process."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from infra.processes import Child, ChildSpec
from infra.servers import free_port

START_TIMEOUT_S = 60.0


class ServerProcess:
    """A running `tests.openai_server`."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.url = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.url}/v1"

    def num_running(self) -> int:
        """Branches that the server decodes."""
        return int(httpx.get(f"{self.url}/running").json())

    def fail(self, num_requests: int) -> None:
        """Have it turn away so many of the requests to come."""
        httpx.get(f"{self.url}/fail/{num_requests}")

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.child.pid is not None
        os.kill(self.child.pid, signal.SIGKILL)


@contextmanager
def openai_server(
    folder: Path, model_dir: Path, draft_dir: Path | None, *options: str, port: int | None = None
) -> Iterator[ServerProcess]:
    """Run the server on a checkpoint until the end of the block."""
    port = port or free_port()
    argv = [sys.executable, "-m", "tests.openai_server", "--model-dir", str(model_dir)]
    argv += ["--draft-dir", str(draft_dir)] if draft_dir else []
    argv += ["--port", str(port), *options]

    def listens() -> bool:
        try:
            httpx.get(f"http://127.0.0.1:{port}/running")
        except httpx.TransportError:
            return False
        return True

    child = Child(ChildSpec("openai-server", tuple(argv), listens), folder / "openai-server.log")
    child.start()
    try:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not child.check_ready():
            assert child.returncode is None, child.log_tail()
            assert time.monotonic() < give_up_at, child.log_tail()
            time.sleep(0.05)
        yield ServerProcess(child, port)
    finally:
        child.stop()
