"""Another try: what failed or expired, in a new job with the same options."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from db.endings import finish_jobs
from db.jobs import start_job
from db.models import Problem, Submission
from db.session import SessionFactory, transaction
from tests.api.live import error_of, job_body
from tests.api.routes.test_jobs import UNKNOWN

OUTCOMES: list[dict[str, Any]] = [
    {"state": "answered", "vote_share": 1.0, "answer": "1"},
    {"state": "expired"},
    {"state": "answered", "vote_share": 0.0, "degraded": True},
    {"state": "failed", "error": "made up"},
]
KEY = {"Idempotency-Key": "again"}


def problems(sessions: SessionFactory, job_id: str) -> list[Problem]:
    with transaction(sessions) as session:
        found = select(Problem).where(Problem.job_id == job_id).order_by(Problem.position)
        return list(session.scalars(found))


def ended(api: httpx.Client, sessions: SessionFactory, **options: Any) -> dict[str, Any]:
    """A job whose problems had these outcomes."""
    body = job_body(len(OUTCOMES), **options)
    for problem in body["problems"]:
        problem["submissions"] = [{"id": "ann", "answer": problem["id"]}]
    response = api.post("/v1/jobs", json=body)
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        for position, outcome in enumerate(OUTCOMES):
            this = (Problem.job_id == job["id"], Problem.position == position)
            session.execute(update(Problem).where(*this).values(finished_at=now, **outcome))
        assert finish_jobs(session, now=now) == [job["id"]]
    return job


def test_a_retry_takes_up_what_failed_or_expired_with_the_same_options(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    options = {"name": "mine", "weight": 2.0, "max_branches": 4, "grading": {"method": "exact"}}
    first = ended(api, sessions, temperature=0.3, system_prompt="Think.", **options)

    response = api.post(f"/v1/jobs/{first['id']}/retry", json={"deadline": "20m"})

    assert response.status_code == 201
    again = response.json()
    assert response.headers["location"] == f"/v1/jobs/{again['id']}"
    assert (again["retry_of"], again["num_problems"]) == (first["id"], 2)
    for name in (*options, "temperature", "system_prompt", "model", "family", "prompt_format"):
        assert again[name] == first[name], name
    new = problems(sessions, again["id"])
    old = [problem for problem in problems(sessions, first["id"]) if problem.position in (1, 3)]
    assert [(p.position, p.state) for p in new] == [(0, "pending"), (1, "pending")]
    for name in ("key", "prompt", "reference_answer", "grading", "messages"):
        assert [getattr(p, name) for p in new] == [getattr(p, name) for p in old], name
    with transaction(sessions) as session:
        of_new = select(Submission).where(Submission.job_id == again["id"])
        copied = session.scalars(of_new.order_by(Submission.problem_position)).all()
        assert [(s.problem_position, s.key, s.answer, s.grade) for s in copied] == [
            (0, "ann", "p1", None),
            (1, "ann", "p3", None),
        ]
    assert api.get(f"/v1/jobs/{first['id']}").json()["state"] == "expired"
    (accepted,) = api.get(f"/v1/jobs/{again['id']}/events").json()["data"]
    assert accepted["data"]["retry_of"] == first["id"]


def test_a_retry_may_take_up_what_the_deadline_cut_short(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    first = ended(api, sessions)

    wanted = {"deadline": "20m", "degraded": True, "name": "second try"}
    again = api.post(f"/v1/jobs/{first['id']}/retry", json=wanted).json()

    assert [problem.key for problem in problems(sessions, again["id"])] == ["p1", "p2", "p3"]
    assert again["name"] == "second try"


def test_a_retry_that_is_sent_twice_makes_one_job(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    path = f"/v1/jobs/{ended(api, sessions)['id']}/retry"
    first = api.post(path, json={"deadline": "20m"}, headers=KEY)
    second = api.post(path, json={"deadline": "20m"}, headers=KEY)
    other = api.post(path, json={"deadline": "30m"}, headers=KEY)

    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]


def test_a_job_that_runs_is_not_retried(api: httpx.Client) -> None:
    job_id = api.post("/v1/jobs", json=job_body()).json()["id"]

    response = api.post(f"/v1/jobs/{job_id}/retry", json={"deadline": "20m"})

    assert (response.status_code, error_of(response)["code"]) == (409, "job_not_ended")


def test_a_job_with_nothing_left_is_not_retried(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    first = ended(api, sessions)
    again = api.post(f"/v1/jobs/{first['id']}/retry", json={"deadline": "20m"}).json()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        outcome = OUTCOMES[2] | {"finished_at": now}
        session.execute(update(Problem).where(Problem.job_id == again["id"]).values(**outcome))
        assert start_job(session, again["id"], now=now)
        assert finish_jobs(session, now=now) == [again["id"]]

    path = f"/v1/jobs/{again['id']}/retry"
    response = api.post(path, json={"deadline": "20m"})

    error = error_of(response)
    assert (response.status_code, error["code"]) == (409, "nothing_to_retry")
    assert "'degraded'" in error["message"]
    assert api.post(path, json={"deadline": "20m", "degraded": True}).status_code == 201


def test_a_retry_that_cannot_be_promised_is_refused_and_leaves_nothing(
    api: httpx.Client, sessions: SessionFactory, stored_rows: Callable[[], dict[str, int]]
) -> None:
    first = ended(api, sessions)
    before = stored_rows()

    refused = api.post(f"/v1/jobs/{first['id']}/retry", json={"deadline": "1s"}, headers=KEY)

    assert (refused.status_code, error_of(refused)["code"]) == (422, "deadline_infeasible")
    assert stored_rows() == before
    (kept,) = api.get("/v1/refusals").json()["data"]
    assert kept["num_problems"] == 2
    effort = {"deadline": "2s", "best_effort": True}
    again = api.post(f"/v1/jobs/{first['id']}/retry", json=effort, headers=KEY)
    assert (again.status_code, again.json()["promised"]) == (201, False)


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
        ({"deadline": "1m", "problems": []}, "problems"),
        ({"deadline": "1m", "degraded": "often"}, "degraded"),
    ],
)
def test_a_bad_parameter_of_a_retry_is_named(
    api: httpx.Client, sessions: SessionFactory, wanted: dict[str, Any], param: str
) -> None:
    response = api.post(f"/v1/jobs/{ended(api, sessions)['id']}/retry", json=wanted)

    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_strangers_find_nothing_to_retry(
    api: httpx.Client, stranger: httpx.Client, sessions: SessionFactory
) -> None:
    for job_id in (ended(api, sessions)["id"], UNKNOWN):
        path = f"/v1/jobs/{job_id}/retry"
        assert stranger.post(path, json={"deadline": "20m"}).status_code == 404


def test_what_came_with_a_deadline_in_the_past_is_refused(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()

    response = api.post(f"/v1/jobs/{ended(api, sessions)['id']}/retry", json={"deadline": past})

    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_deadline")
