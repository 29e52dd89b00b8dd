"""Submitting a problem set in each of its forms."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from db.models import Job, Problem
from db.session import SessionFactory, transaction
from db.wake import listen
from db.workers import stop_worker
from scheduler.core.branch_options import AnswerFormat, BranchOptions, PromptFormat
from tests.api.live import error_of, job_body
from tests.factories import MODEL, claimed_batch

LINES = b'{"id": "a", "prompt": "1+1=", "reference_answer": "2"}\n{"id": "b", "prompt": "1+2="}\n'
PROBLEMS = [json.loads(line) for line in LINES.splitlines()]
OPTIONS = {"model": MODEL, "deadline": "1h", "max_branches": "8", "name": "a set"}


def stored_problems(sessions: SessionFactory, job_id: str) -> list[tuple[str, str, str | None]]:
    with transaction(sessions) as session:
        rows = session.scalars(
            select(Problem).where(Problem.job_id == job_id).order_by(Problem.position)
        )
        return [(row.key, row.prompt, row.reference_answer) for row in rows]


def test_a_json_document_becomes_a_queued_job_with_its_problems(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    response = api.post("/v1/jobs", json=job_body(2, name="a set", weight=2.0))

    assert response.status_code == 201
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["state"], job["name"], job["weight"]) == (
        "job", "queued", "a set", 2.0,
    )  # fmt: skip
    assert job["progress"]["pending"] == 2
    assert job["verdict"] == "accepted"
    assert job["met_deadline"] is None
    assert stored_problems(sessions, job["id"]) == [("p0", "1+0=", "1"), ("p1", "1+1=", "2")]


@pytest.mark.parametrize(
    "request_parts",
    [
        {"content": LINES, "headers": {"Content-Type": "application/x-ndjson"}, "params": OPTIONS},
        {"content": LINES, "headers": {"Content-Type": "application/jsonl"}, "params": OPTIONS},
        {"files": {"file": ("set.jsonl", LINES)}, "data": OPTIONS},
        {"files": {"file": ("set.jsonl", LINES)}, "params": OPTIONS},
        {"json": {**OPTIONS, "max_branches": 8, "problems": PROBLEMS}},
    ],
    ids=["ndjson", "jsonl", "upload with fields", "upload with query", "json"],
)  # fmt: skip
def test_every_form_stores_the_same_job(
    api: httpx.Client, sessions: SessionFactory, request_parts: dict[str, Any]
) -> None:
    response = api.post("/v1/jobs", **request_parts)

    assert response.status_code == 201, response.text
    job = response.json()
    assert (job["name"], job["max_branches"]) == ("a set", 8)
    assert stored_problems(sessions, job["id"]) == [("a", "1+1=", "2"), ("b", "1+2=", None)]


def test_a_chunked_body_without_a_length_is_read_to_its_end(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    response = api.post(
        "/v1/jobs",
        content=(LINES[start : start + 7] for start in range(0, len(LINES), 7)),
        headers={"Content-Type": "application/x-ndjson"},
        params=OPTIONS,
    )

    assert response.status_code == 201
    assert len(stored_problems(sessions, response.json()["id"])) == 2


def test_ids_left_out_number_the_problems_and_numbers_are_text(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    problems = [{"prompt": "a"}, {"id": 7, "prompt": "b", "reference_answer": 4923}]

    job = api.post("/v1/jobs", json=job_body(problems=problems)).json()

    assert stored_problems(sessions, job["id"]) == [("problem-1", "a", None), ("7", "b", "4923")]


def test_blank_lines_a_byte_order_mark_and_a_missing_last_newline_are_fine(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    content = b"\xef\xbb\xbf" + b'{"prompt": "\xc3\xa9"}\r\n\r\n{"prompt": "b"}'

    response = api.post(
        "/v1/jobs",
        content=content,
        headers={"Content-Type": "application/x-ndjson; charset=utf-8"},
        params=OPTIONS,
    )

    assert [row[1] for row in stored_problems(sessions, response.json()["id"])] == ["\u00e9", "b"]


def test_a_relative_deadline_counts_from_now_and_an_instant_is_taken_as_it_is(
    api: httpx.Client,
) -> None:
    before = datetime.now(UTC)
    relative = api.post("/v1/jobs", json=job_body(deadline="90s")).json()
    instant = (before + timedelta(hours=2)).astimezone().isoformat()
    absolute = api.post("/v1/jobs", json=job_body(deadline=instant)).json()

    time_left_s = (datetime.fromisoformat(relative["deadline_at"]) - before).total_seconds()
    assert 90 <= time_left_s < 100
    assert datetime.fromisoformat(absolute["deadline_at"]) == before + timedelta(hours=2)


def test_the_forecast_of_the_admission_is_stored_with_the_job(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = api.post("/v1/jobs", json=job_body()).json()

    with transaction(sessions) as session:
        row = session.get_one(Job, job["id"])
    assert job["predicted"] == job["admitted"]
    assert datetime.fromisoformat(job["admitted"]["finish_at"]) == row.admitted_finish_at
    assert row.admitted_finish_at <= row.admitted_finish_p95_at <= row.deadline_at
    assert job["plan"]["num_branches"] == row.num_branches
    assert 0 < job["slack_s"] <= 3_600
    assert job["forecast_basis"] == row.forecast_basis
    assert "Cold start" in job["forecast_basis"]["note"]


def test_a_job_below_the_accuracy_asked_for_is_accepted_degraded(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=job_body(min_accuracy=1.0)).json()

    assert job["verdict"] == "accepted_degraded"


def test_an_infeasible_deadline_is_refused_with_the_earliest_feasible_finish(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    before = datetime.now(UTC)

    response = api.post("/v1/jobs", json=job_body(2_000, deadline="1s"))

    error = error_of(response)
    assert response.status_code == 422
    assert (error["code"], error["param"]) == ("deadline_infeasible", "deadline")
    earliest_at = datetime.fromisoformat(error["earliest_finish_at"])
    assert earliest_at > before + timedelta(seconds=1)
    # Who takes the second that is shown for a deadline is not refused again.
    shown_at = earliest_at + timedelta(microseconds=999_999)
    assert shown_at.strftime("%Y-%m-%dT%H:%M:%SZ") in error["message"]
    assert not any(stored_rows().values())


def test_a_known_model_that_nobody_serves_now_is_a_503_to_retry(
    api: httpx.Client, worker: str, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        assert stop_worker(session, name=worker, incarnation="w1-1", now=datetime.now(UTC))

    response = api.post("/v1/jobs", json=job_body())

    assert response.status_code == 503
    assert error_of(response)["code"] == "no_capacity"
    assert int(response.headers["retry-after"]) > 0


def test_before_any_worker_registered_a_submission_is_a_503_to_retry(
    api_alone: httpx.Client,
) -> None:
    response = api_alone.post("/v1/jobs", json=job_body())

    assert response.status_code == 503
    assert error_of(response)["code"] == "no_capacity"


def test_a_submission_wakes_the_scheduler(api: httpx.Client, database_url: str) -> None:
    with listen(database_url) as listener:
        api.post("/v1/jobs", json=job_body())

        assert listener.wait(5.0)


BRANCH_OPTIONS: dict[str, Any] = {
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 20,
    "seed": 7,
    "stop": ["\n\n", "END"],
    "thinking_token_budget": 512,
    "prompt_format": "chat",
    "system_prompt": "Reason step by step.",
    "answer_format": "choice",
    "closing_text": "\nFinal answer: \\boxed{",
}


@pytest.mark.parametrize("is_json", [True, False], ids=["json", "ndjson"])
def test_branch_options_reach_the_worker(
    api: httpx.Client, sessions: SessionFactory, is_json: bool
) -> None:
    if is_json:
        response = api.post("/v1/jobs", json=job_body(2, **BRANCH_OPTIONS))
    else:
        params = {**OPTIONS, **BRANCH_OPTIONS, "stop": json.dumps(BRANCH_OPTIONS["stop"])}
        headers = {"Content-Type": "application/x-ndjson"}
        response = api.post("/v1/jobs", content=LINES, headers=headers, params=params)
    assert response.status_code == 201, response.text
    job = response.json()
    assert {name: job[name] for name in BRANCH_OPTIONS} == BRANCH_OPTIONS
    with transaction(sessions) as session:
        claimed = claimed_batch(session, job["id"])
    assert (claimed.temperature, claimed.top_p) == (0.6, 0.95)
    assert claimed.options == BranchOptions(
        top_k=20,
        seed=7,
        stop=("\n\n", "END"),
        thinking_token_budget=512,
        prompt_format=PromptFormat.CHAT,
        system_prompt="Reason step by step.",
        answer_format=AnswerFormat.CHOICE,
        closing_text="\nFinal answer: \\boxed{",
    )


def test_one_stop_string_may_stand_alone_and_the_rest_has_defaults(api: httpx.Client) -> None:
    job = api.post("/v1/jobs", json=job_body(2, stop="END")).json()
    assert job["stop"] == ["END"]
    assert job["prompt_format"] == job["answer_format"] == "auto"
    assert job["system_prompt"] is job["closing_text"] is job["top_k"] is job["seed"] is None
