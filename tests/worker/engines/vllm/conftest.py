"""One vLLM for all tests of the engine, as it takes half a minute to start."""

import itertools
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.engines.checkpoints import write_checkpoint
from worker.engines.vllm.settings import VllmSettings

with warnings.catch_warnings():
    # What vLLM imports warns in many ways, now and while it runs.
    warnings.simplefilter("ignore")
    pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")
    from worker.engines.vllm.engine import VllmEngine

NUM_ROWS = 4
DRAFT_LENGTHS = (0, 1, 2, 4)
KV_CACHE_BYTES = 256 << 20

_numbers = itertools.count()


def write_served_checkpoint(directory: Path, **options: Any) -> Path:
    """Writes a tiny random checkpoint of shapes that vLLM takes on a CPU."""
    write_checkpoint(directory, hidden_size=64, num_heads=2, num_kv_heads=2, **options)
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM warn as it likes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target that never ends by itself, and a draft that often agrees with it."""
    root = tmp_path_factory.mktemp("checkpoints")
    target = write_served_checkpoint(root / "target", seed=1, logit_scale=1.5)
    draft = write_served_checkpoint(root / "draft", seed=1, num_layers=1, logit_scale=1.5)
    return target, draft


class _Resident:
    """Starts vLLM when it is first asked for, and anew when a test has closed it."""

    def __init__(self, checkpoints: tuple[Path, Path]) -> None:
        self._checkpoints = checkpoints
        self._engine: VllmEngine | None = None

    def engine(self) -> VllmEngine:
        if self._engine is None or self._engine.is_closed:
            self._engine = VllmEngine(
                *self._checkpoints,
                VllmSettings(draft_lengths=DRAFT_LENGTHS, kv_cache_bytes=KV_CACHE_BYTES),
                model="tiny",
                max_num_seqs=NUM_ROWS,
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


@pytest.fixture(scope="session")
def resident(checkpoints: tuple[Path, Path]) -> Iterator[_Resident]:
    made = _Resident(checkpoints)
    yield made
    made.close()


@pytest.fixture
def engine(resident: _Resident) -> VllmEngine:
    return resident.engine()


@pytest.fixture
def prompts() -> list[str]:
    """Prompts that no earlier test has used, as their prefill would be cached."""
    number = f"{next(_numbers):06o}".translate(str.maketrans("01234567", "ijklmnop"))
    return [number + "abcdefgh" * 8, number + "aabbccddeeffgghh" * 5]
