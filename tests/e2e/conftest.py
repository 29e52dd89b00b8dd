"""One embedded Slackline with a replay worker, and what is seen of it: traces, metrics, logs."""

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from infra.servers import is_port_free
from tests.collector import Collector, collecting
from tests.replay_files import replay_environment
from tests.stack import Stack, open_folder, running_stack


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the stack sends its traces."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def metrics_port() -> int:
    """The scheduler serves its metrics there, the worker on the next one."""
    # Below the ports that the system gives to connections: two in a row are free there.
    while True:
        first = random.randrange(20_000, 32_000)
        if all(is_port_free("127.0.0.1", port) for port in (first, first + 1)):
            return first


@pytest.fixture(scope="session")
def stack(collector: Collector, metrics_port: int) -> Iterator[Stack]:
    """The running stack."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        env = {
            **replay_environment(folder / "replay"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "SLACKLINE_METRICS_PORT": str(metrics_port),
            "SLACKLINE_LOG_JSON": "true",
        }
        yield closing.enter_context(running_stack(folder / "data", "replay", env=env))
