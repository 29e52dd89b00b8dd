"""A worker that stops answering while it lives, longer than its job has time."""

import os
import signal
import time

from tests.replay_files import MODEL, NUM_PROBLEMS, problem_set
from tests.stack import Stack


def test_a_deadline_in_the_middle_returns_the_best_answers_so_far(stack: Stack) -> None:
    with stack.client() as client:
        job = client.submit(problem_set(), model=MODEL, deadline="15s")
        stack.wait_until(lambda: client.job(job["id"])["progress"]["answered"] >= 5)
        worker = stack.running.children["worker-replay"]
        os.kill(worker, signal.SIGSTOP)
        try:
            ended = client.wait(job["id"])
            results = list(client.results(job["id"], branches=True))
        finally:
            os.kill(worker, signal.SIGCONT)
        assert ended["state"] == "expired"
        progress = ended["progress"]
        assert progress["answered"] + progress["expired"] == NUM_PROBLEMS
        assert ended["degraded"] > 0
        for result in results:
            has_finished_branch = result["num_branches_finished"] > 0
            assert (result["state"] == "answered") == has_finished_branch
        # What the worker wrote after it woke up is refused: it had lost its leases.
        time.sleep(3.0)
        assert list(client.results(job["id"], branches=True)) == results
        again = client.submit(problem_set(4), model=MODEL, deadline="30s")
        assert client.wait(again["id"])["met_deadline"]
