"""What README and the pages in `docs` name exists, and every setting has its default there."""

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
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
SETTINGS = PAGES[ROOT / "docs" / "settings.md"]
_ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`(.*?)` )?\|", re.MULTILINE)
_OF_CLIENTS = {"SLACKLINE_URL", "SLACKLINE_API_KEY"}
_OF_TESTS = {"SLACKLINE_TEST_CHROMIUM", "SLACKLINE_TEST_SCREENSHOTS"}
_OF_COMPOSE = re.compile(r"\$\{(\w+):-(.*?)\}")


def _defaults(settings: type, prefix: str = "SLACKLINE_") -> Iterator[tuple[str, str]]:
    """Each variable of settings with its default as the page shows it."""
    given: list[tuple[str, object, object]]
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
    assert set(_ROW.findall(SETTINGS)) == expected


def test_every_link_leads_somewhere() -> None:
    for path, page in PAGES.items():
        for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page):
            found = (path.parent / target).resolve() if target else path
            assert found.exists(), (path, target)
            if heading:
                headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
                assert heading in map(_anchor, headings), (path, target, heading)


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(
        r"`((?:api|db|docs|infra|scheduler|tests|worker)/[\w./-]+)`", "".join(PAGES.values())
    )
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    pages = "".join(PAGES.values())
    named = re.findall(r"(?:`|^\$? ?)make ([a-z-]+)(?=`| name| ARGS|  +#| &&)", pages, re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"bench", "setup", "test-vllm"} <= set(named) <= set(targets)


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {name for name, _ in _ROW.findall(SETTINGS)} | _OF_CLIENTS | _OF_TESTS
    named = set(re.findall(r"\bSLACKLINE_[A-Z_]*[A-Z]\b", "".join(PAGES.values())))
    groups = {name.rpartition("__")[0] for name in known}
    assert named - known - groups == set()


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
