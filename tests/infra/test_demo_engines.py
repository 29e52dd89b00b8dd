"""What a worker serves when nobody says what."""

from pathlib import Path

import pytest

from infra.demo_engines import DEMO_SETTINGS, demo_settings


@pytest.mark.parametrize("engine", sorted(DEMO_SETTINGS))
def test_the_shipped_files_are_there(engine: str) -> None:
    settings = demo_settings(engine, {}, {})
    paths = [value for value in settings.values() if isinstance(value, Path)]
    assert paths
    assert all(path.exists() for path in paths)


def test_a_checkpoint_of_ones_own_gets_nothing_of_the_demo() -> None:
    assert demo_settings("torch", {"model_dir": Path("mine")}, {}) == {}
    assert demo_settings("torch", {}, {"SLACKLINE_MODEL_DIR": "mine"}) == {}


def test_single_settings_may_differ_from_the_demo() -> None:
    settings = demo_settings("torch", {"model": "mine"}, {"SLACKLINE_DRAFT_DIR": "mine"})
    assert "model_dir" in settings
    assert not {"model", "draft_dir"} & set(settings)


def test_an_engine_without_a_demo_gets_nothing() -> None:
    assert demo_settings("openai", {}, {}) == {}
