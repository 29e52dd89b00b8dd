"""A worker that stops answering while it lives, longer than its job has time."""

import os
import signal
import time

from api.client import Result
from tests.replay_files import MODEL, NUM_PROBLEMS, problem_set
from tests.stack import Stack


def without_aborted(result: Result) -> Result:
    """The result with the branches that counted."""
    branches = [b for b in result["branches"] or [] if b["finish_reason"] in ("stop", "length")]
    return {**result, "branches": branches}


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
        # What the worker brought after it woke up is refused: it had lost its leases. Only what
        # its branches cost is kept.
        time.sleep(3.0)
        assert [without_aborted(r) for r in client.results(job["id"], branches=True)] == [
            without_aborted(result) for result in results
        ]
        assert client.cost(job["id"])["row_seconds"]["retried"] > 0
        again = client.submit(problem_set(4), model=MODEL, deadline="30s")
        assert client.wait(again["id"])["met_deadline"]
