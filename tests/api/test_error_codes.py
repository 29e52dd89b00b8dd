"""The pages for programs have every error code that the code gives, and none that is gone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE_AT = {"ApiError": 1, "LineError": 1, "batch_error": 0, "_refusal": 0, "error": 0}
"""Which argument of these calls is a code; in others it is named `code`."""
_OF_STARLETTE = {"not_found", "method_not_allowed", "bad_request"}


def _sources(*folders: str) -> str:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return "\n".join(path.read_text() for path in paths)


def _given_codes(source: str) -> Iterator[str]:
    """Codes that calls are given as they stand."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = str(getattr(call.func, "id", getattr(call.func, "attr", None)))
        found = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if name in _CODE_AT:
            found += call.args[_CODE_AT[name] :][:1]
        for code in found:
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield code.value


def _documented_codes(page: str, heading: str) -> set[str]:
    """What stands in backticks in a section and looks like a code."""
    section = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2]
    return set(re.findall(r"`([a-z_]+)`", section.partition("\n## ")[0]))


def test_the_pages_have_every_code_and_none_that_is_gone() -> None:
    of_server = _documented_codes("api.md", "Errors")
    of_command = _documented_codes("command.md", "For programs")
    given = set(_given_codes(_sources("api", "infra")))
    assert {"deadline_infeasible", "job_ended", "port_taken"} <= given | of_server
    assert given - of_server - of_command == set()
    source = _sources("api", "scheduler/core")
    codes = {code for code in of_server - _OF_STARLETTE if "_" in code}
    assert {code for code in codes if f'"{code}"' not in source} == set()
