"""A worker on torch and the process of its engine: what is killed takes no answer with it."""

from collections.abc import Iterator

import psutil
import pytest

from api.client import Client
from infra.demo_engines import DEMO_MODEL_DIR
from tests.stack import Stack, open_folder, running_stack

WORKER = "worker-torch"
ALL_S = 90.0


@pytest.fixture
def stack() -> Iterator[Stack]:
    with open_folder() as folder, running_stack(folder, "torch") as stack:
        yield stack


def engine_of(worker: psutil.Process) -> psutil.Process:
    """The process that decodes, the largest child."""
    return max(worker.children(), key=lambda child: child.memory_info().rss)


def num_answered(client: Client, job_id: str) -> int:
    return client.job(job_id)["progress"]["answered"]


def test_an_engine_that_dies_is_replaced_and_one_whose_worker_dies_is_gone(stack: Stack) -> None:
    problems = DEMO_MODEL_DIR / "arithmetic.jsonl"
    with stack.client() as client:
        job_id = client.submit(problems, model="slackline-demo", deadline="280s")["id"]
        stack.wait_until(lambda: num_answered(client, job_id) >= 3, ALL_S)
        worker = psutil.Process(stack.running.children[WORKER])
        engine_of(worker).kill()
        stack.wait_until(lambda: stack.running.children.get(WORKER, worker.pid) != worker.pid)
        # The last answers of the one that is gone are stored by now.
        answered = num_answered(client, job_id)
        stack.wait_until(lambda: num_answered(client, job_id) > answered, ALL_S)
        assert all(result["state"] != "failed" for result in client.results(job_id))
        children = psutil.Process(stack.running.children[WORKER]).children(recursive=True)
        stack.kill(WORKER)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
        client.cancel(job_id)
