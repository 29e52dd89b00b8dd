"""A job's life through the command line and HTTP, on the embedded default with a replay worker."""

import json
import os
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.client import Client, SlacklineError
from api.client.shapes import Job
from db.session import connect, session_factory, transaction
from tests.api.two_tenants import new_tenant
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack, slackline

NUM_PROBLEMS = 8
MANY = 100


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


def test_more_time_buys_accuracy(stack: Stack) -> None:
    with stack.client() as client:
        tight = client.submit(problem_set(), model=MODEL, deadline="8s")
        client.cancel(tight["id"])
        ample = client.submit(problem_set(), model=MODEL, deadline="300s")
        client.cancel(ample["id"])
    assert _most_branches(tight) <= _most_branches(ample)
    assert tight["admitted"]["accuracy"] < ample["admitted"]["accuracy"]


def _most_branches(job: Job) -> int:
    plan = job["plan"]
    assert plan is not None
    return max(plan["num_branches"], plan["max_branches"])


def test_a_heavy_tenant_does_not_push_a_light_one_past_its_deadlines(stack: Stack) -> None:
    with ExitStack() as clients:
        heavy, light = (
            clients.enter_context(client_of_tenant(stack, name)) for name in ("heavy", "light")
        )
        backlog = filled(heavy)
        assert len(backlog) > 1
        jobs = []
        for _ in range(3):
            jobs.append(submitted(light))
            backlog += filled(heavy)
        ended = [light.wait(job_id) for job_id in jobs]
        assert [(job["verdict"], job["met_deadline"]) for job in ended] == [("accepted", True)] * 3
        # What was promised to the other is kept, too, and not with the scraps of a last moment.
        others = [heavy.wait(job_id) for job_id in backlog]
        assert all(job["state"] == "completed" for job in others)
        assert all(job["degraded"] <= job["num_problems"] / 2 for job in others)


def client_of_tenant(stack: Stack, name: str) -> Client:
    """A client with the key of a new tenant."""
    engine = connect(stack.running.database_url)
    with transaction(session_factory(engine)) as session:
        _, _, secret = new_tenant(session, name, datetime.now(UTC))
    engine.dispose()
    return Client(stack.running.api_url, secret)


def submitted(client: Client) -> str:
    """Id of a new job of the whole problem set that is due in ten seconds."""
    return client.submit(problem_set(), model=MODEL, deadline="10s")["id"]


def filled(client: Client) -> list[str]:
    """Ids of jobs, as many as are taken: they come faster than the engine ends them."""
    found: list[str] = []
    with pytest.raises(SlacklineError, match="cannot meet its deadline"):
        found.extend(submitted(client) for _ in range(MANY))
    return found
