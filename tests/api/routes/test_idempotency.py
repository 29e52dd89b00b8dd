"""Retries of a submission: one key, one job."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx

from db import keys
from db.session import SessionFactory, transaction
from tests.api.live import client_of, error_of, job_body
from tests.factories import MODEL

KEY = {"Idempotency-Key": "retry-1"}


def test_a_retry_returns_the_same_job_and_says_so(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    first = api.post("/v1/jobs", json=job_body(), headers=KEY)
    again = api.post("/v1/jobs", json=job_body(), headers=KEY)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert stored_rows() == {"jobs": 1, "problems": 3, "idempotency_keys": 1, "job_events": 1}


def test_a_retry_in_another_form_is_the_same_request(api: httpx.Client) -> None:
    problems = [{"id": "a", "prompt": "1+1="}]
    first = api.post("/v1/jobs", json=job_body(problems=problems), headers=KEY)

    again = api.post(
        "/v1/jobs",
        content=b'{"prompt": "1+1=", "id": "a"}\n',
        headers=KEY | {"Content-Type": "application/x-ndjson"},
        params={"model": MODEL, "deadline": "1h"},
    )

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


def test_another_request_with_the_same_key_is_a_conflict(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    first = api.post("/v1/jobs", json=job_body(), headers=KEY).json()
    for other in (job_body(2), job_body(deadline="2h"), job_body(max_branches=4)):
        response = api.post("/v1/jobs", json=other, headers=KEY)

        error = error_of(response)
        assert response.status_code == 409
        assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
        assert first["id"] in error["message"]
    assert stored_rows()["jobs"] == 1


def test_a_refused_submission_leaves_its_key_free(api: httpx.Client) -> None:
    assert api.post("/v1/jobs", json=job_body(deadline="1ms"), headers=KEY).status_code == 400

    assert api.post("/v1/jobs", json=job_body(), headers=KEY).status_code == 201


def test_eight_concurrent_retries_make_one_job(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    body = job_body(50)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: api.post("/v1/jobs", json=body, headers=KEY), range(8)))

    assert sorted(response.status_code for response in responses) == [200] * 7 + [201]
    assert len({response.json()["id"] for response in responses}) == 1
    assert stored_rows() == {"jobs": 1, "problems": 50, "idempotency_keys": 1, "job_events": 1}


def test_tenants_may_use_the_same_key(
    api: httpx.Client, url: str, sessions: SessionFactory
) -> None:
    secret = keys.new_secret()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        tenant_id = keys.create_tenant(session, name="other", now=now)
        keys.insert_api_key(
            session,
            tenant_id=tenant_id,
            key_sha256=keys.hash_secret(secret),
            label="test",
            now=now,
        )
    first = api.post("/v1/jobs", json=job_body(), headers=KEY)
    with client_of(url, secret) as other:
        second = other.post("/v1/jobs", json=job_body(), headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
