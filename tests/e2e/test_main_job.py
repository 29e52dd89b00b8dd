"""A job's life through the command line and HTTP, on the embedded default with a replay worker."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from api.client import SlacklineError
from tests.replay_files import MODEL, problem_set, replay_environment
from tests.stack import Stack, open_folder, running_stack, slackline

NUM_PROBLEMS = 8


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with open_folder() as folder:
        env = replay_environment(folder / "replay")
        with running_stack(folder / "data", "replay", env=env) as running:
            yield running


def run(stack: Stack, *arguments: str) -> str:
    """Output of a client command against the stack."""
    running = stack.running
    env = {"SLACKLINE_URL": running.api_url, "SLACKLINE_API_KEY": running.api_key}
    done = subprocess.run(
        slackline(*arguments), env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_file_goes_in_and_graded_answers_come_out(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in problem_set(NUM_PROBLEMS)))
    submitted = json.loads(run(stack, "submit", str(file), "--deadline", "30s", "--json"))
    assert submitted["state"] == "queued"
    assert submitted["verdict"] == "accepted"
    run(stack, "watch", submitted["id"])
    results = [json.loads(line) for line in run(stack, "results", submitted["id"]).splitlines()]
    assert [result["id"] for result in results] == [f"p{number}" for number in range(NUM_PROBLEMS)]
    assert all(result["state"] == "answered" for result in results)
    # Two thirds of the recorded samples are right, so votes nearly always are.
    assert sum(result["is_correct"] for result in results) >= NUM_PROBLEMS - 2
    report = json.loads(run(stack, "report", "--json"))
    assert report["data"][0]["slo_attainment"] == 1.0
    assert report["data"][0]["tpot_s"]["p50"] > 0


def test_a_deadline_that_cannot_be_met_is_refused_with_one_that_can(stack: Stack) -> None:
    with stack.client() as client:
        num_jobs = len(list(client.jobs()))
        with pytest.raises(SlacklineError) as refusal:
            client.submit(problem_set(), model=MODEL, deadline="1s")
        assert refusal.value.code == "deadline_infeasible"
        assert len(list(client.jobs())) == num_jobs
        earliest_at = datetime.fromisoformat(refusal.value.details["earliest_finish_at"])
        # That was seen from the first submission, and some time has passed.
        later_at = earliest_at + timedelta(seconds=2)
        job = client.submit(problem_set(), model=MODEL, deadline=later_at)
        assert client.wait(job["id"])["met_deadline"]


def test_more_time_buys_more_branches(stack: Stack) -> None:
    with stack.client() as client:
        tight = client.submit(problem_set(), model=MODEL, deadline="8s")
        client.cancel(tight["id"])
        ample = client.submit(problem_set(), model=MODEL, deadline="300s")
        client.cancel(ample["id"])
    assert tight["plan"] is not None
    assert ample["plan"] is not None
    assert tight["plan"]["num_branches"] < ample["plan"]["num_branches"]
    assert tight["admitted"]["accuracy"] < ample["admitted"]["accuracy"]
