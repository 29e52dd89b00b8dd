"""All commands of `slackline`: whichever are added, they speak JSON when asked to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from api.client.screen import ExitCode
from infra.command import app
from infra.servers import free_port


def walk(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command below this one."""
    if not hasattr(command, "commands"):
        yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, *path, name)


ROOT: Any = typer.main.get_command(app)
COMMANDS = sorted(walk(ROOT))


def command_at(path: tuple[str, ...]) -> Any:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command


def options_of(path: tuple[str, ...]) -> set[str]:
    return {option for parameter in command_at(path).params for option in parameter.opts}


ASKING = [path for path in COMMANDS if "--url" in options_of(path) and "health" not in path]
"""Commands that ask a server."""


def needed_by(path: tuple[str, ...], file: Path) -> list[str]:
    """Words for what the command cannot do without."""
    words = []
    for parameter in command_at(path).params:
        if parameter.required:
            is_file = parameter.name == "file"
            word = str(file) if is_file else "job_1"
            is_option = parameter.opts[0].startswith("--")
            words += [parameter.opts[0], word] if is_option else [word]
    return words


def envelope_of(result: Any) -> dict[str, Any]:
    """The error on standard error, after a check that nothing else was said anywhere."""
    assert result.stdout == ""
    document = json.loads(result.stderr)
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


def test_the_walk_finds_commands_of_groups_and_of_the_client() -> None:
    assert {("submit",), ("up",), ("keys", "create")} <= set(COMMANDS)
    assert {("submit",), ("jobs",), ("cancel",)} <= set(ASKING)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_takes_json_and_says_so_of_wrong_usage(path: tuple[str, ...]) -> None:
    assert "--json" in options_of(path)

    result = CliRunner().invoke(app, [*path, "--json", "--no-such-option"])

    assert result.exit_code == ExitCode.USAGE
    assert envelope_of(result)["code"] == "usage_error"


@pytest.mark.parametrize("path", ASKING, ids=" ".join)
def test_every_command_that_asks_a_server_tells_in_json_that_there_is_none(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.app.RETRY_FOR_S", 0.0)
    file = tmp_path / "set.jsonl"
    file.write_text('{"prompt": "1+1="}\n')
    url = f"http://127.0.0.1:{free_port()}"

    result = CliRunner().invoke(app, [*path, *needed_by(path, file), "--json", "--url", url])

    assert result.exit_code == ExitCode.ERROR
    assert envelope_of(result)["code"] == "connection_error"


def test_a_group_without_a_command_and_an_unknown_one_are_wrong_usage() -> None:
    for words in (["--json"], ["keys", "--json"], ["sumbit", "--json"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == ExitCode.USAGE
        assert envelope_of(result)["code"] == "usage_error"


def test_an_operators_command_that_fails_gives_the_envelope(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["down", "--json", "--data", str(tmp_path)])

    assert result.exit_code == ExitCode.ERROR
    assert envelope_of(result)["code"] == "not_stopped"
