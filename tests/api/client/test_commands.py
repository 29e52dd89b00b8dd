"""The client's commands against the live API."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner, Result

from api.client.commands import app
from api.client.follow import outcome
from api.client.screen import ExitCode
from api.client.shapes import Job
from db.deadlines import expire_jobs
from db.endings import finish_cancelled, finish_jobs
from db.session import SessionFactory, transaction
from infra.servers import free_port
from tests.api.live import LOCAL_KEY
from tests.factories import MODEL

Run = Callable[..., Result]

LINES = '{"id": "a", "prompt": "1+1=", "reference_answer": "2"}\n{"id": "b", "prompt": "1+2="}\n'


@pytest.fixture
def run(url: str, worker: str) -> Run:  # noqa: ARG001
    """Runs a command against the live API."""
    environment = {"SLACKLINE_URL": url, "SLACKLINE_API_KEY": LOCAL_KEY, "COLUMNS": "200"}

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=stdin, env=environment)

    return invoke


@pytest.fixture
def problem_file(tmp_path: Path) -> str:
    path = tmp_path / "set.jsonl"
    path.write_text(LINES)
    return str(path)


@pytest.fixture
def submit(run: Run, problem_file: str) -> Callable[[], str]:
    """Submits the file; returns the job's id."""

    def submit_file() -> str:
        result = run("submit", problem_file, "--deadline", "1h", "--json")
        assert result.exit_code == 0, result.output
        job: Job = json.loads(result.stdout)
        return job["id"]

    return submit_file


def test_submit_tells_the_job_and_its_forecast(run: Run, problem_file: str) -> None:
    result = run(
        "submit", problem_file, "--deadline", "1h", "--model", MODEL,
        "--branches", "4", "--name", "two",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "accepted: 2 problems due" in result.stdout
    assert "predicted finish" in result.stdout
    (job,) = json.loads(run("jobs", "--json").stdout)
    assert (job["name"], job["max_branches"]) == ("two", 4)


def test_submit_reads_standard_input_and_finds_the_only_model(run: Run) -> None:
    result = run("submit", "-", "--deadline", "1h", "--json", stdin=LINES)

    job = json.loads(result.stdout)
    assert (job["model"], job["num_problems"]) == (MODEL, 2)


def test_quote_draws_the_frontier_and_submits_nothing(run: Run, problem_file: str) -> None:
    table = run("quote", problem_file)
    chosen = run("quote", "-", "--deadline", "1h", "--deadline", "1s", "--json", stdin=LINES)
    sized = run("quote", "--num-problems", "40", "--prompt-chars", "90", "--min-accuracy", "0.99")

    assert table.exit_code == 0, table.output
    assert "earliest feasible finish in" in table.stdout
    assert "x draft" in table.stdout
    assert "Cold start" in table.stdout
    rows = json.loads(chosen.stdout)["deadlines"]
    assert [(row["deadline_s"], row["feasible"]) for row in rows] == [(1.0, False), (3600.0, True)]
    assert "No deadline reaches accuracy 99.0%." in sized.stdout
    assert json.loads(run("jobs", "--json").stdout) == []


def test_explain_shows_the_plans_weighed_and_the_history(
    run: Run, submit: Callable[[], str]
) -> None:
    job_id = submit()

    shown = run("explain", job_id)
    as_json = run("explain", job_id, "--json")

    assert shown.exit_code == 0, shown.output
    assert f"{job_id} queued (accepted)" in shown.stdout
    assert "in force" in shown.stdout
    assert "Accepted: 2 problems" in shown.stdout
    assert json.loads(as_json.stdout)["job_id"] == job_id


def test_results_go_to_the_screen_a_table_or_a_file(
    run: Run, submit: Callable[[], str], tmp_path: Path
) -> None:
    job_id = submit()
    out = tmp_path / "answers.jsonl"

    lines = run("results", job_id)
    table = run("results", job_id, "--format", "table")
    written = run("results", job_id, "--out", str(out))

    assert [json.loads(line)["id"] for line in lines.stdout.splitlines()] == ["a", "b"]
    assert "pending" in table.stdout
    assert (written.exit_code, written.stdout) == (0, "")
    assert out.read_text() == lines.stdout


def test_results_of_an_unknown_job_leave_the_file_as_it_was(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text("precious")

    result = run("results", "job_" + "0" * 32, "--out", str(out))

    assert result.exit_code == 1
    assert out.read_text() == "precious"


def test_lists_have_a_table_and_json(run: Run, submit: Callable[[], str]) -> None:
    job_id = submit()
    for command, words in (
        (("jobs",), job_id),
        (("workers",), "w1"),
        (("report",), "TTFT"),
        (("report", "latency", "--by", "model", "--start", "2026-01-01"), "P50 / P90 / P99"),
        (("report", "attainment", "--every", "day", "--family", "any"), "slack at submission"),
        (("report", "calibration", "--by", "deadline_class"), "by P95"),
        (("report", "accuracy", "--split", "8x2"), "row-s saved"),
        (("report", "speculation", "--engine", "torch"), "rows in use"),
        (("report", "compare", "--of", "attainment", "--model", MODEL), "before"),
    ):
        table = run(*command)
        assert table.exit_code == 0, table.output
        assert words in table.stdout
        assert json.loads(run(*command, "--json").stdout) is not None


def test_watch_follows_to_the_end_and_sums_up(
    run: Run, submit: Callable[[], str], sessions: SessionFactory
) -> None:
    job_id = submit()
    assert run("cancel", job_id).stdout == f"{job_id} cancelling\n"
    with transaction(sessions) as session:
        finish_cancelled(session, job_id, now=datetime.now(UTC))

    shown = run("watch", job_id)
    as_json = run("watch", job_id, "--json")
    explained = run("explain", job_id)

    assert shown.exit_code == as_json.exit_code == ExitCode.NOT_COMPLETED
    assert f"{job_id} cancelled: 0 of 2 answered, 2 cancelled" in shown.stdout
    assert json.loads(as_json.stdout.splitlines()[-1])["state"] == "cancelled"
    assert explained.stdout.rstrip().endswith("Ended cancelled.")


@pytest.mark.parametrize(
    ("state", "met_deadline", "code"),
    [
        ("completed", True, ExitCode.DONE),
        ("completed", False, ExitCode.MISSED_DEADLINE),
        ("expired", False, ExitCode.MISSED_DEADLINE),
        ("failed", False, ExitCode.NOT_COMPLETED),
        ("cancelled", None, ExitCode.NOT_COMPLETED),
    ],
)
def test_the_exit_code_tells_how_a_watched_job_ended(
    state: str, met_deadline: bool | None, code: ExitCode
) -> None:
    assert outcome(cast(Job, {"state": state, "met_deadline": met_deadline})) == code


def test_interrupting_a_watch_says_that_the_job_goes_on(
    run: Run, submit: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit()

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("api.client.client.time.sleep", interrupted)
    result = run("watch", job_id)

    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"{job_id} goes on" in result.stderr
    assert json.loads(run("jobs", "--json").stdout)[0]["state"] == "queued"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit", "none.jsonl", "--deadline", "1h"), "none.jsonl"),
        (("submit", "-", "--deadline", "soon"), "Cannot read the deadline"),
        (("submit", "-", "--deadline", "1h", "--model", "gpt-9"), "Known models: demo"),
        (("submit", "-", "--deadline", "1h", "--branches", "99"), "at most 64"),
        (("quote", "none.jsonl"), "none.jsonl"),
        (("quote", "-", "--deadline", "soon"), "Cannot read the deadline"),
        (("quote",), "'num_problems'"),
        (("explain", "job_1"), "No job found"),
        (("watch", "job_1"), "No job found"),
        (("results", "../workers"), "not a job id"),
        (("cancel", "job_1"), "No job found"),
        (("workers", "--api-key", "sk-slk-wrong"), "API key"),
        (("workers", "--url", f"http://127.0.0.1:{free_port()}"), "slackline up"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(
    run: Run, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.client.app.RETRY_FOR_S", 0.2)

    result = run(*arguments, stdin=LINES)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def test_a_live_job_is_given_another_deadline_and_priority(
    run: Run, submit: Callable[[], str]
) -> None:
    job_id = submit()

    told = run("change", job_id, "--deadline", "2h", "--priority", "2")
    refused = run("change", job_id, "--deadline", "1s", "--json")

    assert told.exit_code == 0, told.output
    assert told.stdout.startswith(f"{job_id} accepted: 2 problems due ")
    assert refused.exit_code != 0
    job = json.loads(run("change", job_id, "--priority", "3", "--json").stdout)
    assert job["weight"] == 3.0
    assert run("change", job_id).exit_code != 0


def test_what_expired_is_tried_again(
    run: Run, submit: Callable[[], str], sessions: SessionFactory
) -> None:
    job_id = submit()
    assert run("retry", job_id, "--deadline", "1h").exit_code != 0
    with transaction(sessions) as session:
        end = datetime.now(UTC) + timedelta(hours=2)
        expire_jobs(session, [job_id], now=end)
        finish_jobs(session, now=end)

    again = run("retry", job_id, "--deadline", "1h", "--degraded", "--json")

    assert again.exit_code == 0, again.output
    job = json.loads(again.stdout)
    assert (job["retry_of"], job["num_problems"]) == (job_id, 2)
