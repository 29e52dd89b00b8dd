"""Starts the OpenAI-compatible test server as a child process."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from infra.processes import Child, ChildSpec
from infra.servers import free_port
from tests.servers import running


class ServerProcess:
    """A running `tests.openai_server`."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.url = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.url}/v1"

    def num_running(self) -> int:
        """Branches that the server decodes."""
        return int(httpx.get(f"{self.url}/running", verify=False).json())

    def fail(self, num_requests: int) -> None:
        """Have it turn away so many of the requests to come."""
        httpx.get(f"{self.url}/fail/{num_requests}", verify=False)

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
            httpx.get(f"http://127.0.0.1:{port}/running", verify=False)
        except httpx.TransportError:
            return False
        return True

    with running(ChildSpec("openai-server", tuple(argv), listens), folder) as child:
        yield ServerProcess(child, port)
