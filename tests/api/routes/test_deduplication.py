"""Retries without a key: the same content within a moment is one job."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update

from db.models import Job
from db.session import SessionFactory, transaction
from tests.api.conftest import Serve
from tests.api.live import job_body
from tests.api.openai.batch_files import CHAT, chat_line, jsonl, upload


@pytest.fixture
def api(serve: Serve, worker: str) -> httpx.Client:  # noqa: ARG001
    """The API with the window that it has by default."""
    return serve()


def test_twenty_equal_submissions_at_once_are_one_job(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    body = job_body(20)
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: api.post("/v1/jobs", json=body), range(20)))

    assert sorted(response.status_code for response in responses) == [200] * 19 + [201]
    assert len({response.json()["id"] for response in responses}) == 1
    replayed = [r.headers.get("idempotent-replayed") for r in responses if r.status_code == 200]
    assert replayed == ["content"] * 19
    assert stored_rows() == {"jobs": 1, "problems": 20, "idempotency_keys": 0, "job_events": 1}


def test_what_differs_or_wants_to_be_another_job_is_one(api: httpx.Client) -> None:
    bodies = [
        job_body(),
        job_body(2),
        job_body(deadline="2h"),
        job_body(max_branches=4),
        job_body(deduplicate=False),
        job_body(deduplicate=False),
    ]
    made = [api.post("/v1/jobs", json=body) for body in bodies]
    keyed = api.post("/v1/jobs", json=job_body(), headers={"Idempotency-Key": "mine"})

    assert {response.status_code for response in (*made, keyed)} == {201}


def test_a_job_that_was_cancelled_or_ended_badly_is_no_answer_to_another_try(
    api: httpx.Client,
) -> None:
    first = api.post("/v1/jobs", json=job_body()).json()["id"]
    api.post(f"/v1/jobs/{first}/cancel")

    assert api.post("/v1/jobs", json=job_body()).status_code == 201


def test_the_window_ends(api: httpx.Client, sessions: SessionFactory) -> None:
    first = api.post("/v1/jobs", json=job_body()).json()["id"]
    assert api.post("/v1/jobs", json=job_body()).json()["id"] == first
    with transaction(sessions) as session:
        session.execute(update(Job).values(created_at=Job.created_at - timedelta(seconds=10)))

    assert api.post("/v1/jobs", json=job_body()).status_code == 201


def test_tenants_do_not_get_each_other_s_jobs(api: httpx.Client, stranger: httpx.Client) -> None:
    mine = api.post("/v1/jobs", json=job_body())
    theirs = stranger.post("/v1/jobs", json=job_body())

    assert (mine.status_code, theirs.status_code) == (201, 201)


def test_a_window_of_zero_takes_nothing_for_a_retry(
    serve: Serve,
    worker: str,  # noqa: ARG001
) -> None:
    api = serve(dedup_window_s=0)
    responses = [api.post("/v1/jobs", json=job_body()) for _ in range(2)]

    assert [response.status_code for response in responses] == [201, 201]


def _batch(api: httpx.Client, file_id: str, retry_count: str | None) -> httpx.Response:
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "1h"}
    headers = {} if retry_count is None else {"x-stainless-retry-count": retry_count}
    return api.post("/v1/batches", json=body, headers=headers)


@pytest.fixture
def file_id(api: httpx.Client) -> str:
    return str(upload(api, jsonl(chat_line())).json()["id"])


def test_a_batch_that_the_official_client_sends_again_is_the_first_one(
    api: httpx.Client, file_id: str
) -> None:
    first = _batch(api, file_id, "0")
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda n: _batch(api, file_id, str(1 + n)), range(8)))

    assert {response.json()["id"] for response in again} == {first.json()["id"]}
    assert {response.headers["idempotent-replayed"] for response in again} == {"content"}
    assert len(api.get("/v1/batches").json()["data"]) == 1


def test_equal_batches_that_are_no_retries_are_batches_of_their_own(
    api: httpx.Client, file_id: str
) -> None:
    made = [_batch(api, file_id, count) for count in ("0", "0", None)]
    other = _batch(api, "file-other", "1")

    assert len({response.json()["id"] for response in (*made, other)}) == 4
