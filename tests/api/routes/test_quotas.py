"""Tokens that a tenant may have queued: reserved at submit, given back as problems end."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from db import keys
from db.deadlines import expire_jobs
from db.endings import finish_jobs
from db.models import Job, Problem, Tenant
from db.problems import answer_problems
from db.quotas import queued_jobs
from db.session import SessionFactory, transaction
from scheduler.core.states import ProblemState
from tests.api.live import error_of, job_body
from tests.api.openai.batch_files import chat_line, errors_of, run
from tests.factories import MODEL, claimed_batch, problem_answer

Serve = Callable[..., httpx.Client]


def small_body(num_problems: int) -> dict[str, Any]:
    """A job of which every problem counts alike, whatever else is live."""
    return job_body(num_problems, max_branches=1, max_tokens=64, deduplicate=False)


def queued(sessions: SessionFactory) -> float:
    with transaction(sessions) as session:
        return sum(job.tokens for job in queued_jobs(session, keys.LOCAL_TENANT))


def set_quota(sessions: SessionFactory, tokens: float | None) -> None:
    quota = None if tokens is None else math.ceil(tokens)
    with transaction(sessions) as session:
        session.execute(update(Tenant).values(max_queued_tokens=quota))


def test_a_job_counts_for_its_prompts_and_all_branches_that_are_expected(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    narrow, wide = (
        api.post("/v1/jobs", json=job_body(3, max_branches=n)).json()["id"] for n in (1, 8)
    )
    with transaction(sessions) as session:
        counted = {job.id: job for job in session.scalars(select(Job))}
    for job_id in (narrow, wide):
        job = counted[job_id]
        assert job.num_branches is not None
        assert job.plan_max_tokens is not None
        longest = job.mean_prompt_tokens + job.num_branches * job.plan_max_tokens
        assert job.mean_prompt_tokens < job.tokens_per_problem < longest + 1e-6
    assert counted[wide].tokens_per_problem > counted[narrow].tokens_per_problem
    total = 3 * (counted[narrow].tokens_per_problem + counted[wide].tokens_per_problem)
    assert queued(sessions) == pytest.approx(total)


def test_a_job_beyond_the_quota_is_told_when_to_come_back(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    assert api.post("/v1/jobs", json=small_body(4)).status_code == 201
    one = queued(sessions)
    set_quota(sessions, 1.5 * one)
    response = api.post("/v1/jobs", json=small_body(4))
    error = error_of(response)
    assert (response.status_code, error["code"]) == (429, "token_limit_exceeded")
    assert error["type"] == "rate_limit_error"
    assert error["queued_tokens"] == error["wanted_tokens"] == round(one)
    assert error["limit_tokens"] == math.ceil(1.5 * one)
    assert 1 <= int(response.headers["retry-after"]) <= 120
    assert "Retry in" in error["message"]
    assert len(api.get("/v1/jobs").json()["data"]) == 1
    assert queued(sessions) == pytest.approx(one)
    # Half as much fits, and then nothing more.
    assert api.post("/v1/jobs", json=small_body(2)).status_code == 201
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 429


def test_a_job_that_is_too_large_by_itself_is_told_to_send_less(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    api.get("/v1/jobs")
    set_quota(sessions, 10)
    response = api.post("/v1/jobs", json=small_body(4))
    assert response.status_code == 429
    assert "submit fewer problems" in error_of(response)["message"]
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


def test_a_retry_is_not_counted_again(api: httpx.Client, sessions: SessionFactory) -> None:
    key = {"Idempotency-Key": "once"}
    assert api.post("/v1/jobs", json=small_body(4), headers=key).status_code == 201
    set_quota(sessions, 1.5 * queued(sessions))
    assert api.post("/v1/jobs", json=small_body(4), headers=key).status_code == 200


def test_a_second_try_counts_as_a_submission_does(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=small_body(4)).json()["id"]
    full = queued(sessions)
    with transaction(sessions) as session:
        assert expire_jobs(session, [job_id], now=datetime.now(UTC) + timedelta(hours=2))
        assert finish_jobs(session, now=datetime.now(UTC)) == [job_id]
    assert queued(sessions) == 0
    set_quota(sessions, full / 2)
    response = api.post(f"/v1/jobs/{job_id}/retry", json={"deadline": "1h"})
    assert (response.status_code, error_of(response)["code"]) == (429, "token_limit_exceeded")
    set_quota(sessions, full)
    assert api.post(f"/v1/jobs/{job_id}/retry", json={"deadline": "1h"}).status_code == 201


def test_tokens_come_back_as_problems_end_and_at_once_when_a_job_is_cancelled(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=small_body(4)).json()["id"]
    full, now = queued(sessions), datetime.now(UTC)
    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id, num_problems=1, now=now)
        answer = problem_answer(batch.problems[0].id, finished_at=now)
        assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=[answer])
    assert queued(sessions) == pytest.approx(0.75 * full)
    set_quota(sessions, full)
    assert api.post("/v1/jobs", json=small_body(2)).status_code == 429
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 201
    assert api.post(f"/v1/jobs/{job_id}/cancel").is_success
    assert queued(sessions) == pytest.approx(0.25 * full)
    assert api.post("/v1/jobs", json=small_body(3)).status_code == 201


@pytest.mark.usefixtures("worker")
def test_the_limit_of_a_tenant_stands_before_that_of_the_server(
    serve: Serve, sessions: SessionFactory
) -> None:
    api = serve(max_queued_tokens=1)
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 429
    set_quota(sessions, 1_000_000)
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 201
    set_quota(sessions, None)
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 429


def test_a_batch_counts_as_jobs_do_and_fails_beyond_the_quota(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    lines = [chat_line(f"p{i}", temperature=i % 2) for i in range(6)]
    assert run(api, *lines)["status"] == "in_progress"
    one = queued(sessions)
    assert one > 0
    set_quota(sessions, 1.5 * one)
    failed = run(api, *lines)
    assert errors_of(failed) == [("token_limit_exceeded", None, None)]
    (told,) = failed["errors"]["data"]
    assert told["message"].startswith(f"Enqueued token limit reached for {MODEL}.")
    assert queued(sessions) == pytest.approx(one)
    set_quota(sessions, one)
    assert api.post("/v1/jobs", json=small_body(1)).status_code == 429


def test_expired_problems_count_no_more(api: httpx.Client, sessions: SessionFactory) -> None:
    api.post("/v1/jobs", json=small_body(4))
    with transaction(sessions) as session:
        session.execute(
            update(Problem).values(
                state=ProblemState.EXPIRED, finished_at=datetime.now(UTC) + timedelta(hours=1)
            )
        )
    assert queued(sessions) == 0
