"""Admission inside the transaction of a submission."""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text

from api.admission import store
from api.body import Body
from api.errors import ApiError
from api.problem_rows import load
from api.settings import ApiSettings
from api.submission import Submission, read_submission
from db import keys
from db import session as db_session
from db.admission import hold_admission
from db.session import SessionFactory, transaction
from scheduler.core.admission import weigh
from scheduler.core.explain import explain_live
from scheduler.core.parts import weigh_again, weigh_parts
from tests.api.live import error_of, job_body
from tests.api.openai.batch_files import chat_line, run
from tests.factories import stored_worker


@pytest.fixture
def settings(database_url: str) -> ApiSettings:
    return ApiSettings(database_url=database_url)


def submission_of(body: dict[str, object], settings: ApiSettings) -> Submission:
    file = io.BytesIO(orjson.dumps(body))
    return read_submission(Body(file, is_lines=False, options={}), settings)


def test_a_retry_after_the_deadline_still_finds_its_job(
    sessions: SessionFactory, settings: ApiSettings
) -> None:
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=now)
        stored_worker(session, now=now)
    submission = submission_of(job_body(deadline=(now + timedelta(hours=1)).isoformat()), settings)

    def attempt(key: str, at: datetime) -> str:
        with transaction(sessions) as session:
            return store(
                session,
                load(session, submission),
                tenant_id=keys.LOCAL_TENANT,
                idempotency_key=key,
                received_at=at,
                now=at,
                settings=settings,
            ).job_id

    job_id = attempt("a", now)

    assert attempt("a", now + timedelta(hours=2)) == job_id
    with pytest.raises(ApiError, match="in the past"):
        attempt("b", now + timedelta(hours=2))


def test_jobs_submitted_at_once_are_not_promised_the_same_capacity(api: httpx.Client) -> None:
    body = job_body(200)
    refused = error_of(api.post("/v1/jobs", json=body | {"deadline": "1s"}))
    body["deadline"] = f"{1.3 * refused['earliest_finish_s']:.1f}s"

    def num_accepted(pool_size: int) -> int:
        with ThreadPoolExecutor(pool_size) as pool:
            responses = list(pool.map(lambda _: api.post("/v1/jobs", json=body), range(6)))
        accepted = [r.json()["id"] for r in responses if r.status_code == 201]
        for job_id in accepted:
            api.post(f"/v1/jobs/{job_id}/cancel")
        return len(accepted)

    one_by_one = num_accepted(1)

    assert 1 <= one_by_one < 6
    assert num_accepted(6) == one_by_one


def test_a_set_that_is_being_stored_holds_up_no_other(
    api: httpx.Client, sessions: SessionFactory, settings: ApiSettings
) -> None:
    with sessions() as session:
        load(session, submission_of(job_body(50), settings))

        assert api.post("/v1/jobs", json=job_body()).status_code == 201
        session.rollback()


def test_submissions_that_wait_for_their_turn_leave_reads_alone(
    serve: Callable[..., httpx.Client], sessions: SessionFactory, worker: str
) -> None:
    assert worker
    api = serve(pool_size=2, max_turn_wait_s=0.3)
    limits = httpx.Limits(max_connections=60)
    with (
        httpx.Client(base_url=api.base_url, headers=api.headers, limits=limits) as client,
        ThreadPoolExecutor(60) as pool,
    ):
        with transaction(sessions) as session:
            hold_admission(session)
            waiting = [pool.submit(client.post, "/v1/jobs", json=job_body()) for _ in range(60)]
            while sum(each.done() for each in waiting) < 59:
                assert api.get("/v1/jobs").json()["data"] == []
        answers = [each.result() for each in waiting]

    assert sum(answer.status_code == 201 for answer in answers) == 1
    for response in answers:
        if response.status_code == 201:
            continue
        assert (response.status_code, error_of(response)["code"]) == (503, "server_busy")
        assert int(response.headers["retry-after"]) > 0


def test_an_admission_may_think_for_longer_than_what_holds_rows(
    serve: Callable[..., httpx.Client], worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker

    def slowly(thought: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **options: Any) -> Any:
            time.sleep(0.6)
            return thought(*args, **options)

        return slow

    monkeypatch.setattr(db_session, "IDLE_LIMIT_S", 0.3)
    thoughts: dict[str, Callable[..., Any]] = {
        "api.verdicts.weigh_parts": weigh_parts,
        "api.openai.preview.weigh": weigh,
        "api.explanations.explain_live": explain_live,
        "api.changes.weigh_again": weigh_again,
    }
    for name, thought in thoughts.items():
        monkeypatch.setattr(name, slowly(thought))
    api = serve()
    response = api.post("/v1/jobs", json=job_body())
    assert response.status_code == 201
    job = response.json()
    assert api.get(f"/v1/jobs/{job['id']}/explain").json()["now"] is not None
    assert run(api, chat_line())["status"] == "in_progress"

    response = api.patch(f"/v1/jobs/{job['id']}", json={"deadline": "30m"})

    assert (response.status_code, error_of(response)["code"]) == (503, "server_busy")
    assert api.get(f"/v1/jobs/{job['id']}").json()["deadline_at"] == job["deadline_at"]


def test_time_spent_waiting_for_other_admissions_is_not_promised_again(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with transaction(sessions) as session:
            hold_admission(session)
            submitted_at = datetime.now(UTC)
            response = pool.submit(api.post, "/v1/jobs", json=job_body(deadline="1h"))
            waits = "SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not session.scalar(text(waits)):
                time.sleep(0.01)
            arrived_at = datetime.now(UTC)
            time.sleep(0.1)
            released_at = datetime.now(UTC)
        job = response.result().json()

    assert datetime.fromisoformat(job["created_at"]) >= released_at
    due_at = datetime.fromisoformat(job["deadline_at"])
    assert submitted_at < due_at - timedelta(hours=1) < arrived_at


def test_jobs_are_admitted_by_the_schedulers_own_policy(
    serve: Callable[..., httpx.Client], sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(sessions) as session:
        stored_worker(session, now=datetime.now(UTC) - timedelta(seconds=60))
    monkeypatch.setenv("SLACKLINE_SCHEDULER__RESERVE_S", "4000")
    monkeypatch.setenv("SLACKLINE_SCHEDULER__WORKER_TIMEOUT_S", "900")
    api = serve()

    response = api.post("/v1/jobs", json=job_body(deadline="1h"))

    assert error_of(response)["code"] == "deadline_infeasible"
    assert error_of(response)["earliest_finish_s"] > 4000
    assert [worker["status"] for worker in api.get("/v1/workers").json()["data"]] == ["alive"]
    assert "slackline_live_workers 1.0" in api.get("/metrics").text


def test_the_earliest_feasible_finish_of_a_refusal_is_accepted_as_a_deadline(
    api: httpx.Client,
) -> None:
    refused = error_of(api.post("/v1/jobs", json=job_body(100, deadline="1s")))
    slowness_s = 5.0
    earliest_at = datetime.fromisoformat(refused["earliest_finish_at"])
    deadline = (earliest_at + timedelta(seconds=slowness_s)).isoformat()

    response = api.post("/v1/jobs", json=job_body(100, deadline=deadline))

    assert response.status_code == 201
