"""SIGKILL in mid-job: the job ends in time, and every finished branch counts exactly once."""

from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from api.client import Client, Job, Result
from tests.replay_files import MODEL, NUM_PROBLEMS, problem_set
from tests.stack import Stack

DEADLINE = "45s"
"""The undisturbed job takes about ten seconds on two cores."""


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


MARKER = "slackline-test-marker"


def submit_and_wait_for_answers(stack: Stack, client: Client, num_answered: int) -> Job:
    job = client.submit(problem_set(), model=MODEL, deadline=DEADLINE)
    stack.wait_until(lambda: client.job(job["id"])["progress"]["answered"] >= num_answered)
    return job


def finished_branches(results: list[Result]) -> dict[tuple[str, int], str]:
    """When each branch that stopped by itself finished, by problem and index."""
    return {
        (result["id"], branch["branch_index"]): branch["finished_at"]
        for result in results
        for branch in result["branches"] or []
        if branch["finish_reason"] in ("stop", "length")
    }


def check_ended_well(client: Client, job: Job, before: list[Result]) -> None:
    """In time, everything answered, branches of before the kill kept, none counted twice."""
    ended = client.wait(job["id"])
    assert ended["state"] == "completed"
    assert ended["met_deadline"]
    assert ended["progress"]["answered"] == NUM_PROBLEMS
    results = list(client.results(job["id"], branches=True))
    kept, finished = finished_branches(before), finished_branches(results)
    assert kept
    assert kept.items() <= finished.items()
    per_problem = Counter(problem for problem, _ in finished)
    for result in results:
        assert result["num_branches_finished"] == per_problem[result["id"]]
        indexes = [branch["branch_index"] for branch in result["branches"] or []]
        assert len(indexes) == len(set(indexes))


def test_a_killed_worker_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 3)
    stack.kill("worker-replay")
    before = list(client.results(job["id"], branches=True))
    check_ended_well(client, job, before)
    assert any(event["kind"] for event in client.events(job["id"]))


def test_a_killed_scheduler_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 3)
    stack.kill("scheduler")
    check_ended_well(client, job, list(client.results(job["id"], branches=True)))


def test_a_killed_api_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 3)
    before = list(client.results(job["id"], branches=True))
    stack.kill("api")
    check_ended_well(client, job, before)


def test_a_killed_and_emptied_redis_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 3)
    before = list(client.results(job["id"], branches=True))
    # It keeps nothing on disk, so the one that is restarted is empty until its clients are back.
    with redis.Redis.from_url(stack.running.redis_url) as connection:
        connection.set(MARKER, 1)
    stack.kill("redis")
    stack.wait_until(lambda: has_marker(stack) is False)
    check_ended_well(client, job, before)


def has_marker(stack: Stack) -> bool | None:
    """Whether Redis still has the marker, None while it is away."""
    url = stack.running.redis_url
    with redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0), 0)) as connection:
        try:
            return bool(connection.exists(MARKER))
        except redis.ConnectionError:
            return None


def test_a_flushed_redis_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 1)
    before = list(client.results(job["id"], branches=True))
    with redis.Redis.from_url(stack.running.redis_url) as connection:
        connection.flushall()
    check_ended_well(client, job, before)


def test_a_killed_postmaster_loses_no_job(stack: Stack, client: Client) -> None:
    job = submit_and_wait_for_answers(stack, client, 3)
    before = list(client.results(job["id"], branches=True))
    stack.kill("postgres")
    check_ended_well(client, job, before)
