"""One embedded Slackline with a replay worker, shared by the tests that break it."""

from collections.abc import Iterator

import pytest

from tests.replay_files import replay_environment
from tests.stack import Stack, open_folder, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as running:
            yield running
