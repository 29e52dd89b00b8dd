"""vLLM in a whole Slackline: jobs are solved, and what is killed takes nothing with it.

The tests share one stack and run in order: the last one stops it.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from api.client import Client, Job
from api.client.errors import SlacklineError
from api.client.shapes import JobOptions
from infra.demo_engines import DEMO_MODEL_DIR
from infra.processes import bound
from tests.stack import Stack, open_folder, running_stack, slackline

START_TIMEOUT_S = 280.0
WORKER = "worker-vllm"
PROBLEMS = DEMO_MODEL_DIR / "arithmetic.jsonl"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with open_folder() as folder, running_stack(folder, "vllm", timeout_s=START_TIMEOUT_S) as it:
        yield it


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


def test_a_worker_that_still_loads_vllm_is_ended_by_sigterm(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": "postgresql:///nothing",
        "REDIS_URL": "redis:///",
        "SLACKLINE_DATA_DIR": str(tmp_path),
    }
    argv = slackline("worker", "--name", "loading", "--engine", "vllm")
    argv = bound(argv, signal.SIGKILL)
    with subprocess.Popen(argv, env={**os.environ, **settings}) as process:
        worker = psutil.Process(process.pid)
        while not (children := worker.children(recursive=True)):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def worker_of(stack: Stack) -> psutil.Process:
    return psutil.Process(stack.running.children[WORKER])


def core_of(worker: psutil.Process) -> psutil.Process:
    """vLLM's engine core, in which the model runs too."""
    [core] = [child for child in worker.children() if "EngineCore" in " ".join(child.cmdline())]
    return core


def submit_all(stack: Stack, client: Client) -> Job:
    """Submits the whole demo set and waits until some of it is answered."""
    job = client.submit(PROBLEMS, model="slackline-demo", deadline="280s", best_effort=True)
    stack.wait_until(lambda: client.job(job["id"])["progress"]["answered"] >= 3, 60.0)
    return job


def wait_for_another_worker(stack: Stack, client: Client, job: Job, pid: int) -> None:
    """Waits until another process has the worker's name and answers go on."""
    stack.wait_until(lambda: stack.running.children.get(WORKER, pid) != pid, 60.0)
    # The last answers of the one that is gone are stored by now.
    answered = client.job(job["id"])["progress"]["answered"]
    stack.wait_until(
        lambda: client.job(job["id"])["progress"]["answered"] > answered, START_TIMEOUT_S
    )


def cancel(stack: Stack, client: Client, job: Job) -> None:
    client.cancel(job["id"])
    stack.wait_until(lambda: client.job(job["id"])["state"] == "cancelled")


def test_a_job_is_solved_and_its_branches_speculated(client: Client) -> None:
    job = client.submit(
        [json.loads(line) for line in PROBLEMS.read_text().splitlines()[:5]],
        model="slackline-demo",
        deadline="60s",
        best_effort=True,
    )
    ended = client.wait(job["id"])
    assert ended["state"] == "completed"
    assert ended["progress"]["answered"] == 5
    branches = [
        branch
        for result in client.results(job["id"], branches=True)
        for branch in result["branches"] or []
        if branch["finish_reason"] == "stop"
    ]
    assert len(branches) >= 5
    for branch in branches:
        drafted = branch["drafted_by_position"]
        assert len(drafted) == branch["num_speculative_tokens"]
        assert branch["num_steps"] <= branch["completion_tokens"]
    [worker] = client.workers()
    assert worker["engine"] == "vllm"


def test_a_job_that_vllm_cannot_solve_says_why_and_others_go_on(client: Client) -> None:
    fine = [json.loads(PROBLEMS.read_text().splitlines()[0])]
    for model, prompt, code in (
        ("nothing", "1+1", "model_not_found"),
        ("slackline-demo", "1+" * 600, "prompt_too_long"),
    ):
        with pytest.raises(SlacklineError) as refused:
            client.submit([*fine, prompt], model=model, deadline="60s", best_effort=True)
        assert refused.value.code == code
    jobs = [
        client.submit(fine, model="slackline-demo", deadline="60s", **options)
        for options in (
            JobOptions(system_prompt="Be brief.", best_effort=True),
            JobOptions(best_effort=True),
        )
    ]
    chat, plain = (client.wait(job["id"]) for job in jobs)
    assert (chat["state"], plain["state"]) == ("failed", "completed")
    [result] = client.results(chat["id"])
    assert "chat template" in str(result["error"])


def test_a_worker_whose_vllm_is_killed_is_replaced_and_its_job_goes_on(
    stack: Stack, client: Client
) -> None:
    job = submit_all(stack, client)
    worker = worker_of(stack)
    core_of(worker).kill()
    wait_for_another_worker(stack, client, job, worker.pid)
    failed = [r for r in client.results(job["id"]) if r["state"] == "failed"]
    assert failed == []
    cancel(stack, client, job)


def test_a_killed_worker_leaves_no_process_of_vllm(stack: Stack, client: Client) -> None:
    job = submit_all(stack, client)
    worker = worker_of(stack)
    children = worker.children(recursive=True)
    assert core_of(worker) in children
    stack.kill(WORKER)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    wait_for_another_worker(stack, client, job, worker.pid)
    cancel(stack, client, job)


def test_a_worker_that_is_asked_to_stop_gives_its_batches_back(
    stack: Stack, client: Client
) -> None:
    job = submit_all(stack, client)
    worker = worker_of(stack)
    children = worker.children(recursive=True)
    worker.send_signal(signal.SIGTERM)
    stack.wait_until(lambda: not worker.is_running())
    assert "batch.lost" in {event["kind"] for event in client.events(job["id"])}
    assert stack.stop() == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
