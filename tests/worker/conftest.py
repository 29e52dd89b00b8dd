"""Fixtures of the worker's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.session import SessionFactory
from tests.worker.bench import Bench


@pytest.fixture
def bench(sessions: SessionFactory, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(sessions, tmp_path)
    yield made
    made.close()
