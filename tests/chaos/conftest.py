"""One embedded Slackline with a replay worker, shared by the tests that break it."""

from collections.abc import Iterator

import pytest

from tests.replay_files import replay_stack
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with replay_stack() as running:
        yield running
