"""Problems with a deadline of their own, answered by a whole Slackline."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median

from api.client.shapes import Problem, Result
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack

NUM_SOON = 10


def with_deadline(deadline: str, num_problems: int) -> list[Problem]:
    """The problem set, of which the last so many are due before the job."""
    problems = problem_set()
    for problem in problems[-num_problems:]:
        problem["deadline"] = deadline
    return problems


def own_of(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result["deadline_at"] is not None]


def at(instant: str | None) -> datetime:
    assert instant is not None
    return datetime.fromisoformat(instant)


def test_problems_that_are_due_sooner_are_answered_sooner(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_deadline("10s", NUM_SOON)
        job = client.submit(problems, model=MODEL, deadline="60s", min_accuracy=0.5)
        (part,) = job["parts"]
        assert (part["num_problems"], job["verdict"]) == (NUM_SOON, "accepted")
        ended = client.wait(job["id"])
        results = list(client.results(job["id"], branches=True))
    assert ended["met_deadline"]
    soon = own_of(results)
    assert [result["position"] for result in soon] == list(range(30, 40))
    assert all(at(result["finished_at"]) <= at(result["deadline_at"]) for result in soon)
    assert all(result["state"] == "answered" for result in results)

    # Submitted last, begun first; batches of one tick may race for the rows.
    others = [result for result in results if result["deadline_at"] is None]
    assert median(map(began, soon)) <= median(map(began, others))


def began(result: Result) -> float:
    """When its first branch came to the engine, in seconds since 1970."""
    return min(at(branch["queued_at"]).timestamp() for branch in result["branches"] or ())


def test_a_deadline_of_problems_cuts_them_off_and_the_others_go_on(stack: Stack) -> None:
    with stack.client() as client:
        problems = with_deadline("1s", NUM_SOON)
        job = client.submit(problems, model=MODEL, deadline="40s", best_effort=True)
        assert not job["promised"]
        ended = client.wait(job["id"])
        results = list(client.results(job["id"]))
        struck = [event for event in client.events(job["id"]) if event["kind"] == "deadline.struck"]
    soon = own_of(results)
    assert len(soon) == NUM_SOON
    num_expired = sum(result["state"] == "expired" for result in soon)
    # Branches that the bound on tokens cut, or the deadline, have no answer.
    assert any(result["answer"] is None or result["degraded"] for result in soon)
    assert all((at(r["finished_at"]) - at(r["deadline_at"])).total_seconds() < 2 for r in soon)
    others = [result for result in results if result["deadline_at"] is None]
    assert all(result["state"] == "answered" for result in others)
    assert ended["state"] == ("expired" if num_expired else "completed")
    assert sum(event["data"].get("expired", 0) for event in struck) == num_expired
