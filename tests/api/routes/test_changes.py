"""Other terms for a live job: kept, or refused with nothing changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from db.deadlines import expire_jobs
from db.models import Job, OpenaiBatch, OpenaiBatchJob
from db.risks import note_risk
from db.session import SessionFactory, transaction
from scheduler.core.decisions import Risk, RiskReason
from tests.api.live import error_of, job_body
from tests.api.routes.test_jobs import UNKNOWN, solve
from tests.factories import stored_job


def submitted(api: httpx.Client, num_problems: int = 3, **options: Any) -> dict[str, Any]:
    response = api.post("/v1/jobs", json=job_body(num_problems, **options))
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


def as_stored(api: httpx.Client, job: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The job but for what depends on the time, and its events."""
    path = f"/v1/jobs/{job['id']}"
    shown = api.get(path).json()
    timeless = {name: value for name, value in shown.items() if name not in ("slack_s",)}
    del timeless["time_left_s"]
    return timeless, api.get(f"{path}/events").json()["data"]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_later_deadline_is_taken_with_a_new_promise_and_an_event(api: httpx.Client) -> None:
    job = submitted(api, deadline="10m")

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2h"})

    assert changed.status_code == 200
    put_off = instant(changed.json()["deadline_at"]) - instant(job["deadline_at"])
    assert timedelta(hours=1) < put_off < timedelta(hours=2)
    assert changed.json()["admitted"] != job["admitted"]
    event = api.get(f"/v1/jobs/{job['id']}/events").json()["data"][1]
    assert event["kind"] == "job.changed"
    assert instant(event["data"]["before"]["deadline_at"]) == instant(job["deadline_at"])
    assert instant(event["data"]["deadline_at"]) == instant(changed.json()["deadline_at"])
    explained = api.get(f"/v1/jobs/{job['id']}/explain").json()
    assert explained["admission"]["time_left_s"] > 3600
    assert explained["history"][1]["what"].startswith("Changed: deadline ")


def test_an_earlier_deadline_that_can_be_kept_is_promised(api: httpx.Client) -> None:
    job = submitted(api)

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "5m"}).json()

    assert instant(changed["deadline_at"]) < instant(job["deadline_at"])
    assert changed["promised"]
    assert instant(changed["admitted"]["finish_p95_at"]) <= instant(changed["deadline_at"])


def test_an_earlier_deadline_that_cannot_be_kept_changes_nothing(api: httpx.Client) -> None:
    job = submitted(api, 300)
    before = as_stored(api, job)

    refused = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2s", "weight": 5})

    assert refused.status_code == 422
    error = error_of(refused)
    assert (error["code"], error["param"]) == ("deadline_infeasible", "deadline")
    assert as_stored(api, job) == before
    # Time goes on meanwhile.
    feasible_at = instant(error["earliest_finish_at"]) + timedelta(minutes=2)
    terms = {"deadline": feasible_at.isoformat()}
    assert api.patch(f"/v1/jobs/{job['id']}", json=terms).status_code == 200


def test_an_earlier_deadline_may_be_had_without_a_promise(api: httpx.Client) -> None:
    job = submitted(api, 300)

    terms = {"deadline": "2s", "best_effort": True}
    changed = api.patch(f"/v1/jobs/{job['id']}", json=terms).json()

    assert (changed["promised"], changed["verdict"]) == (False, "accepted_degraded")
    again = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "1h"}).json()
    assert (again["promised"], again["verdict"]) == (True, "accepted")


def test_a_later_deadline_is_taken_even_where_it_cannot_be_promised(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = submitted(api, 300)
    soon = datetime.now(UTC) + timedelta(seconds=5)
    with transaction(sessions) as session:
        session.execute(update(Job).values(deadline_at=soon))

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "8s"})

    assert changed.status_code == 200
    assert instant(changed.json()["deadline_at"]) > soon
    assert changed.json()["admitted"] == job["admitted"]


def test_a_new_promise_is_not_at_risk_as_the_one_before_was(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = submitted(api)
    with transaction(sessions) as session:
        assert note_risk(session, Risk(job["id"], RiskReason.TOO_LATE, 9.0), now=datetime.now(UTC))
    at_risk = api.get(f"/v1/jobs/{job['id']}").json()["at_risk"]
    assert at_risk["reason"] == "too_late"
    assert instant(at_risk["since"]) < instant(at_risk["finish_p95_at"])
    what = [event["what"] for event in api.get(f"/v1/jobs/{job['id']}/explain").json()["history"]]
    assert what[1].startswith("The deadline is at risk: ")

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2h"}).json()

    assert changed["at_risk"] is None


def test_without_a_worker_a_deadline_may_be_put_off_only(
    api_alone: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        now = datetime.now(UTC)
        job_id = stored_job(session, created_at=now, deadline_at=now + timedelta(minutes=10))

    assert api_alone.patch(f"/v1/jobs/{job_id}", json={"deadline": "5m"}).status_code == 503
    assert api_alone.patch(f"/v1/jobs/{job_id}", json={"deadline": "1h"}).status_code == 200
    assert api_alone.patch(f"/v1/jobs/{job_id}", json={"weight": 3}).json()["weight"] == 3.0


def test_a_weight_alone_leaves_the_promise(api: httpx.Client) -> None:
    job = submitted(api)

    changed = api.patch(f"/v1/jobs/{job['id']}", json={"weight": 2.5}).json()

    assert changed["weight"] == 2.5
    assert (changed["deadline_at"], changed["admitted"]) == (job["deadline_at"], job["admitted"])
    (event,) = api.get(f"/v1/jobs/{job['id']}/events").json()["data"][1:]
    assert (event["data"]["before"]["weight"], event["data"]["weight"]) == (1.0, 2.5)


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({}, "deadline"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": "8d"}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
        ({"deadline": 5}, "deadline"),
        ({"weight": 0}, "weight"),
        ({"weight": "NaN"}, "weight"),
        ({"weight": 2, "max_branches": 3}, "max_branches"),
    ],
)
def test_terms_that_make_no_sense_are_named_and_change_nothing(
    api: httpx.Client, terms: dict[str, Any], param: str
) -> None:
    job = submitted(api)
    before = as_stored(api, job)

    response = api.patch(f"/v1/jobs/{job['id']}", json=terms)

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert as_stored(api, job) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(api: httpx.Client, body: bytes) -> None:
    assert api.patch(f"/v1/jobs/{UNKNOWN}", content=body).status_code == 400
    assert api.post(f"/v1/jobs/{UNKNOWN}/retry", content=body).status_code == 400


def test_a_job_that_has_ended_is_or_is_about_to_cannot_be_changed(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    cancelled = submitted(api)["id"]
    with transaction(sessions) as session:
        now = datetime.now(UTC)
        answered, struck = (
            stored_job(session, num_problems=1, created_at=now, deadline_at=due_at)
            for due_at in (now + timedelta(hours=1), now)
        )
    solve(sessions, answered, num_answered=1)
    api.post(f"/v1/jobs/{cancelled}/cancel")
    for job_id in (answered, struck, cancelled):
        response = api.patch(f"/v1/jobs/{job_id}", json={"deadline": "2h"})
        assert (response.status_code, error_of(response)["code"]) == (409, "job_ended"), job_id


def test_strangers_find_nothing_to_change(api: httpx.Client, stranger: httpx.Client) -> None:
    job = submitted(api)
    for job_id in (job["id"], UNKNOWN):
        assert stranger.patch(f"/v1/jobs/{job_id}", json={"weight": 2}).status_code == 404


def test_a_deadline_that_was_put_off_does_not_strike(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = submitted(api, deadline="10m")
    struck_at = instant(job["deadline_at"])
    api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "1h"})

    # A scheduler that read the old deadline.
    with transaction(sessions) as session:
        assert expire_jobs(session, [job["id"]], now=struck_at) == []

    assert api.get(f"/v1/jobs/{job['id']}").json()["progress"]["pending"] == 3


def test_the_deadline_of_a_job_of_a_batch_is_the_batch_s(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = submitted(api)
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        session.add(
            OpenaiBatch(
                id="batch_1",
                tenant_id="ten_local",
                request_sha256="",
                endpoint="",
                state="failed",
                input_file_id="",
                completion_window="1h",
                options={},
                output_expires_after_s=1,
                output_file_id="",
                error_file_id="",
                created_at=now,
                expires_at=now,
                failed_at=now,
            )
        )
        session.flush()
        session.add(OpenaiBatchJob(batch_id="batch_1", job_id=job["id"]))

    response = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "2h"})

    assert (response.status_code, error_of(response)["code"]) == (409, "job_of_batch")
    assert api.patch(f"/v1/jobs/{job['id']}", json={"weight": 2}).status_code == 200
