"""Runs real servers for as long as a test or a benchmark needs them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.processes import Child, ChildSpec
from infra.servers import Postgres
from tests.stack import open_folder


@contextmanager
def running(spec: ChildSpec, folder: Path, timeout_s: float = 60.0) -> Iterator[Child]:
    """Run a server, with its log in the folder, until the end of the block."""
    server = Child(spec, folder / f"{spec.name}.log")
    server.start()
    try:
        give_up_at = time.monotonic() + timeout_s
        while not server.check_ready():
            assert server.returncode is None, server.log_tail()
            assert time.monotonic() < give_up_at, server.log_tail()
            time.sleep(0.05)
        yield server
    finally:
        server.stop()


@contextmanager
def running_postgres(settings: str = "") -> Iterator[str]:
    """URL of a throw-away Postgres server; the settings are lines for its configuration."""
    with open_folder() as folder:
        server = Postgres(folder / "postgres")
        with (server.data_dir / "postgresql.conf").open("a") as file:
            file.write(settings)
        with running(server.child(), folder):
            yield server.url
        server.close()
