"""What commands of the client print with `--json`, against the live API: a row for each."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from api.client import Client
from api.client.commands import app
from api.client.screen import ExitCode
from db.deadlines import expire_jobs
from db.endings import finish_jobs
from db.session import SessionFactory, transaction
from tests.api.live import LOCAL_KEY
from tests.factories import MODEL

LINES = '{"id": "a", "prompt": "1+1="}\n{"id": "b", "prompt": "1+2="}\n'

ARGUMENTS = {
    "cancel": ["JOB"],
    "change": ["JOB", "--deadline", "2h"],
    "cost": ["JOB"],
    "explain": ["JOB"],
    "jobs": [],
    "quote": ["FILE"],
    "report": [],
    "results": ["JOB"],
    "retry": ["ENDED", "--deadline", "1h"],
    "submit": ["FILE", "--deadline", "1h"],
    "watch": ["ENDED"],
    "webhooks create": ["https://hooks.example.test/", "--event", "job.failed"],
    "webhooks list": [],
    "workers": [],
}
"""Arguments of a call that works. JOB is a live job, ENDED an expired one, FILE a set."""

ELSEWHERE = {
    "grade",  # Waits for a worker: tests/e2e/test_grading.py.
    *(f"webhooks {name}" for name in ("update", "rotate", "deliveries", "redeliver", "delete")),
}
"""Of webhooks these need one: test_webhook_commands.py."""

EXIT_CODES = {"watch": ExitCode.MISSED_DEADLINE}


def asking(command: Any, *path: str) -> Iterator[str]:
    """Commands that take the address of a server and a key."""
    if any("--api-key" in parameter.opts for parameter in command.params):
        yield " ".join(path)
    for name, child in getattr(command, "commands", {}).items():
        yield from asking(child, *path, name)


def invoke(url: str, *arguments: str) -> Result:
    environment = {"SLACKLINE_URL": url, "SLACKLINE_API_KEY": LOCAL_KEY}
    return CliRunner().invoke(app, arguments, env=environment)


def test_no_command_is_forgotten_here() -> None:
    assert set(asking(typer.main.get_command(app))) == set(ARGUMENTS) | ELSEWHERE


@pytest.mark.parametrize("command", ARGUMENTS)
def test_standard_output_is_json_and_nothing_else(
    command: str,
    url: str,
    worker: str,  # noqa: ARG001
    sessions: SessionFactory,
    tmp_path: Path,
) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(LINES)
    with Client(url, LOCAL_KEY) as client:
        job_id, ended_id = (client.submit(file, model=MODEL, deadline="1h")["id"] for _ in range(2))
    with transaction(sessions) as session:
        end = datetime.now(UTC) + timedelta(hours=2)
        expire_jobs(session, [ended_id], now=end)
        finish_jobs(session, now=end)
    words = {"JOB": job_id, "ENDED": ended_id, "FILE": str(file)}

    result = invoke(
        url, *command.split(), *(words.get(it, it) for it in ARGUMENTS[command]), "--json"
    )

    assert result.exit_code == EXIT_CODES.get(command, ExitCode.DONE), result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict | list) for line in lines)


def test_results_in_a_file_leave_one_object_that_names_it(
    url: str,
    worker: str,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    with Client(url, LOCAL_KEY) as client:
        job_id = client.submit(["1+1=", "1+2="], model=MODEL, deadline="1h")["id"]
    out = tmp_path / "answers.jsonl"

    result = invoke(url, "results", job_id, "--out", str(out), "--json")

    assert json.loads(result.stdout) == {"job_id": job_id, "output": str(out), "num_results": 2}
    assert len(out.read_text().splitlines()) == 2


def test_a_refusal_is_an_envelope_with_a_code_of_its_own(
    url: str,
    worker: str,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(LINES.replace('"id": "a", ', "").replace('"id": "b", ', "") * 250)

    refused = invoke(url, "submit", str(file), "--deadline", "1s", "--json")
    missing = invoke(url, "explain", "job_1", "--json")

    assert (refused.exit_code, missing.exit_code) == (ExitCode.REFUSED, ExitCode.ERROR)
    assert refused.stdout == missing.stdout == ""
    error = json.loads(refused.stderr)["error"]
    assert (error["code"], error["type"]) == ("deadline_infeasible", "invalid_request_error")
    assert "earliest_finish_at" in error
    assert json.loads(missing.stderr)["error"]["code"] == "not_found"
