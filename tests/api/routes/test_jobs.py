"""Reading, listing, following and cancelling jobs."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from db import endings, keys
from db.branches import insert_branches
from db.models import Job
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from tests.api.live import client_of, error_of, job_body
from tests.factories import after, branch_row, claimed_batch, problem_answer, stored_job

UNKNOWN = "job_" + "0" * 32


def solve(sessions: SessionFactory, job_id: str, *, num_answered: int) -> None:
    """Answer problems of a job with two branches each, every other one wrong."""
    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id, num_problems=num_answered)
        rows = [branch_row(problem.id, index) for problem in batch.problems for index in (0, 1)]
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
        answers = [
            problem_answer(problem.id, is_correct=number % 2 == 0, degraded=number == 0)
            for number, problem in enumerate(batch.problems)
        ]
        assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)


def test_a_job_counts_its_problems_and_grades_those_that_are_answered(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=6)
    solve(sessions, job_id, num_answered=4)

    job = api.get(f"/v1/jobs/{job_id}").json()

    assert job["state"] == "running"
    assert (job["progress"]["answered"], job["progress"]["pending"]) == (4, 2)
    assert (job["degraded"], job["num_problems"]) == (1, 6)
    assert job["accuracy"] == 0.5
    assert job["mean_acceptance_length"] == 2.0
    assert job["finished_at"] is None


def test_a_finished_job_says_whether_it_met_its_deadline_and_has_no_slack(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    met = {}
    for due_s in (60.0, 0.5):
        with transaction(sessions) as session:
            job_id = stored_job(session, num_problems=1, deadline_at=after(due_s))
        solve(sessions, job_id, num_answered=1)
        with transaction(sessions) as session:
            assert endings.finish_jobs(session, now=after(2)) == [job_id]
        job = api.get(f"/v1/jobs/{job_id}").json()
        assert (job["state"], job["slack_s"], job["time_left_s"]) == ("completed", None, None)
        met[due_s] = job["met_deadline"]

    assert met == {60.0: True, 0.5: False}


def test_a_job_without_references_or_branches_has_no_accuracy(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=job_body(problems=[{"prompt": "x"}])).json()

    assert (job["accuracy"], job["mean_acceptance_length"]) == (None, None)
    assert job["progress"]["pending"] == 1


def test_pages_of_jobs_are_newest_first_and_complete(api: httpx.Client) -> None:
    made = [api.post("/v1/jobs", json=job_body(1)).json()["id"] for _ in range(5)]
    pages, after_id = [], None
    while True:
        params = {"limit": 2} | ({"after": after_id} if after_id else {})
        page = api.get("/v1/jobs", params=params).json()
        pages.append([job["id"] for job in page["data"]])
        after_id = page["next_after"]
        assert page["has_more"] == (after_id is not None)
        if after_id is None:
            break

    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]


def test_a_list_can_be_filtered_by_state(api: httpx.Client) -> None:
    kept, stopped = (api.post("/v1/jobs", json=job_body(1)).json()["id"] for _ in range(2))
    api.post(f"/v1/jobs/{stopped}/cancel")

    for state, ids in (("queued", [kept]), ("cancelling", [stopped]), ("failed", [])):
        page = api.get("/v1/jobs", params={"state": state}).json()
        assert [job["id"] for job in page["data"]] == ids


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"state": "sleeping"},
        {"after": UNKNOWN},
        {"after": "\0"},
    ],
)
def test_bad_parameters_of_a_list_are_named(api: httpx.Client, params: dict[str, str]) -> None:
    response = api.get("/v1/jobs", params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == next(iter(params))


def test_cancelling_a_live_job_asks_it_to_stop_and_twice_is_no_error(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=job_body()).json()["id"]

    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelling"
    assert api.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelling"

    with transaction(sessions) as session:
        assert endings.finish_cancelled(session, job_id, now=datetime.now(UTC))
    job = api.post(f"/v1/jobs/{job_id}/cancel").json()
    assert (job["state"], job["met_deadline"]) == ("cancelled", None)
    kinds = [e["kind"] for e in api.get(f"/v1/jobs/{job_id}/events").json()["data"]]
    assert kinds == ["job.queued", "job.cancelling", "job.cancelled"]


def test_events_are_paged_oldest_first(api: httpx.Client) -> None:
    path = f"/v1/jobs/{api.post('/v1/jobs', json=job_body()).json()['id']}"
    api.post(f"{path}/cancel")

    first = api.get(f"{path}/events", params={"limit": 1}).json()
    rest = api.get(f"{path}/events", params={"after": first["next_after"]}).json()

    assert [event["kind"] for event in first["data"]] == ["job.queued"]
    assert [event["kind"] for event in rest["data"]] == ["job.cancelling"]
    assert (first["has_more"], rest["has_more"], rest["next_after"]) == (True, False, None)
    for wrong in ({"after": "x"}, {"after": -1}, {"after": 2**63}, {"limit": 0}, {"limit": 1001}):
        assert api.get(f"{path}/events", params=wrong).status_code == 400


def test_cancelling_a_job_that_has_ended_is_a_conflict(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=1)
    solve(sessions, job_id, num_answered=1)
    with transaction(sessions) as session:
        endings.finish_jobs(session, now=after(2))

    response = api.post(f"/v1/jobs/{job_id}/cancel")

    assert response.status_code == 409
    assert error_of(response)["code"] == "job_ended"


def test_a_job_of_another_tenant_does_not_exist(
    api: httpx.Client, stranger: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=job_body()).json()["id"]
    path = f"/v1/jobs/{job_id}"
    for request in (
        ("GET", path),
        ("GET", f"{path}/results"),
        ("GET", f"{path}/results?format=ndjson"),
        ("GET", f"{path}/events"),
        ("GET", f"{path}/explain"),
        ("POST", f"{path}/cancel"),
    ):
        response = stranger.request(*request)
        assert response.status_code == 404
        assert error_of(response)["message"] == f"No job found with id '{job_id}'."

    assert stranger.get("/v1/jobs").json()["data"] == []
    assert stranger.get("/v1/jobs", params={"after": job_id}).status_code == 400
    with transaction(sessions) as session:
        assert session.get_one(Job, job_id).state == "queued"


def test_a_revoked_key_no_longer_opens_anything(
    api: httpx.Client, url: str, sessions: SessionFactory
) -> None:
    secret = keys.new_secret()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        tenant_id = keys.create_tenant(session, name="gone", now=now)
        digest = keys.hash_secret(secret)
        key_id = keys.insert_api_key(
            session, tenant_id=tenant_id, key_sha256=digest, label="test", now=now
        )
    with client_of(url, secret) as client:
        assert client.get("/v1/jobs").status_code == 200
        with transaction(sessions) as session:
            keys.revoke_api_key(session, key_id, now=now)
        assert client.get("/v1/jobs").status_code == 401
    assert api.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("job_id", [UNKNOWN, "job_1", "x" * 300, "%00", "job_%00", "..%2Fjobs"])
def test_an_unknown_job_is_a_404(api: httpx.Client, job_id: str) -> None:
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/results", f"/v1/jobs/{job_id}/events"):
        response = api.get(path)
        assert response.status_code == 404
        assert error_of(response)["code"] == "not_found"


def test_live_jobs_come_by_slack_on_request(api: httpx.Client, sessions: SessionFactory) -> None:
    now = datetime.now(UTC)
    due = {name: now + timedelta(hours=hours) for name, hours in {"b": 2, "a": 1, "c": 3}.items()}
    with transaction(sessions) as session:
        for name, deadline_at in due.items():
            stored_job(session, name=name, deadline_at=deadline_at)
        ended = stored_job(session, num_problems=1)
    solve(sessions, ended, num_answered=1)
    with transaction(sessions) as session:
        endings.finish_jobs(session, now=after(2))

    page = api.get("/v1/jobs", params={"order": "slack", "limit": 2}).json()

    assert [job["name"] for job in page["data"]] == ["a", "b"]
    assert page["data"][0]["slack_s"] < page["data"][1]["slack_s"]
    assert (page["has_more"], page["next_after"]) == (True, None)


@pytest.mark.parametrize("params", [{"state": "running"}, {"after": UNKNOWN}])
def test_live_jobs_by_slack_are_one_page(api: httpx.Client, params: dict[str, str]) -> None:
    response = api.get("/v1/jobs", params={"order": "slack", **params})

    assert response.status_code == 400
    assert error_of(response)["param"] == "order"
