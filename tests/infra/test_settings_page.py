"""`docs/settings.md` names every setting, with the default that the code has."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.settings import ApiSettings
from infra.observed import ObservedSettings
from scheduler.config import SchedulerSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text()
_ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`(.*?)` )?\|", re.MULTILINE)
_OF_COMPOSE = re.compile(r"\$\{(\w+):-(.*?)\}")


def _defaults(settings: type, prefix: str = "SLACKLINE_") -> Iterator[tuple[str, str]]:
    """Each variable of settings with its default as the page shows it."""
    if is_dataclass(settings):
        given = [(field.name, None, field.default) for field in fields(settings)]
    else:
        assert issubclass(settings, BaseModel)
        given = [
            (name, field.validation_alias, field.default)
            for name, field in settings.model_fields.items()
        ]
    for name, alias, default in given:
        if isinstance(default, BaseModel) or is_dataclass(default):
            yield from _defaults(type(default), f"{prefix}{name.upper()}__")
        else:
            yield str(alias or prefix + name.upper()), _shown(default)


def _shown(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, str):
        return default
    if isinstance(default, Path):
        return str(default).replace(str(Path.home()), "~")
    if isinstance(default, float):
        return f"{default:.15g}"
    return json.dumps(default)


def test_every_setting_is_on_the_page_with_its_default() -> None:
    expected = {
        named
        for settings in (ApiSettings, SchedulerSettings, WorkerSettings, ObservedSettings)
        for named in _defaults(settings)
    }
    expected |= set(_OF_COMPOSE.findall((ROOT / "docker-compose.yml").read_text()))
    assert set(_ROW.findall(PAGE)) == expected
