"""Quotes over HTTP: the same word as admission, every form of a body, and nothing stored."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy.orm import Session

from api.admission import store
from api.body import Body
from api.problem_rows import load
from api.quotes import make_quote, read_quote_request
from api.settings import ApiSettings
from api.submission import read_submission
from db import keys
from db.models import Job
from db.session import SessionFactory, transaction
from db.workers import register_worker, stop_worker
from tests.api.live import error_of, job_body
from tests.factories import MODEL, engine_spec
from tests.scheduler.core.worlds import ANSWERS, LATENCY

LINES = b'{"id": "a", "prompt": "1+1="}\n{"id": "b", "prompt": "1+2="}\n'
SIZE = {"model": MODEL, "num_problems": 40, "prompt_chars": 140}


@pytest.fixture
def learned(api_alone: httpx.Client, sessions: SessionFactory) -> httpx.Client:
    """The API with one worker whose model was seen on many problems."""
    with transaction(sessions) as session:
        register_learned(session, datetime.now(UTC) + timedelta(minutes=10))
    return api_alone


def register_learned(session: Session, now: datetime) -> None:
    register_worker(
        session,
        name="w1",
        incarnation="w1-1",
        spec=engine_spec(max_model_len=16_384, kv_capacity_tokens=32 * 16_384),
        latency=LATENCY,
        answers=ANSWERS,
        now=now,
    )


def quoted(api: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = api.post("/v1/quotes", json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def test_the_frontier_goes_from_the_earliest_finish_to_where_accuracy_ends(
    learned: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    quote = quoted(learned, SIZE)

    assert (quote["object"], quote["model"], quote["num_problems"]) == ("quote", MODEL, 40)
    assert quote["mean_prompt_tokens"] == pytest.approx(140 / 3.5)
    rows = quote["deadlines"]
    assert len(rows) >= 5
    assert quote["earliest_finish_s"] <= rows[0]["deadline_s"] <= 1.02 * quote["earliest_finish_s"]
    for name in ("deadline_s", "accuracy"):
        values = [row[name] for row in rows]
        assert values == sorted(values)
    for row in rows:
        assert row["feasible"]
        assert row["verdict"] == "accepted"
        assert 0 < row["finish_p50_s"] <= row["finish_p95_s"] <= row["submit_deadline_s"]
        assert row["num_branches"] >= 1
        assert row["row_seconds"] > 0
        due_at = datetime.fromisoformat(quote["quoted_at"]) + timedelta(seconds=row["deadline_s"])
        assert datetime.fromisoformat(row["deadline_at"]) == due_at
    assert not any(stored_rows().values())


def test_a_quote_and_an_admission_at_one_instant_agree(
    sessions: SessionFactory, database_url: str
) -> None:
    settings = ApiSettings(database_url=database_url)
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=now)
        register_learned(session, now)

    def body_of(document: dict[str, Any]) -> Body:
        return Body(io.BytesIO(orjson.dumps(document)), is_lines=False, options={})

    num_compared = 0
    for num_problems in (3, 40, 150):
        asked = {"deadlines": ["15s", "40s", "90s", "5m"], "min_accuracy": 0.6}
        document = job_body(num_problems) | asked
        del document["deadline"]
        quote = make_quote(
            sessions,
            read_quote_request(body_of(document), settings),
            tenant_id=keys.LOCAL_TENANT,
            now=now,
            settings=settings,
        )
        assert [row.deadline_s for row in quote.deadlines] == [15.0, 40.0, 90.0, 300.0]
        for row in quote.deadlines:
            if row.submit_deadline_s is None:
                continue
            submission = job_body(
                num_problems, deadline=f"{row.submit_deadline_s}s", min_accuracy=0.6
            )
            with sessions() as session:
                stored = store(
                    session,
                    load(session, read_submission(body_of(submission), settings)),
                    tenant_id=keys.LOCAL_TENANT,
                    idempotency_key=None,
                    received_at=now,
                    now=now,
                    settings=settings,
                )
                job = session.get_one(Job, stored.job_id)
                assert (job.num_branches, job.num_speculative_tokens, job.plan_max_tokens) == (
                    row.num_branches,
                    row.num_speculative_tokens,
                    row.max_tokens,
                )
                assert job.verdict == row.verdict
                assert job.admitted_accuracy == row.accuracy
                assert row.finish_p95_s is not None
                finish_at = now + timedelta(seconds=row.finish_p95_s)
                assert job.admitted_finish_p95_at == finish_at
                session.rollback()
            num_compared += 1
        # The next set is quoted and admitted behind this one.
        with transaction(sessions) as session:
            store(
                session,
                load(
                    session,
                    read_submission(body_of(job_body(num_problems, deadline="10m")), settings),
                ),
                tenant_id=keys.LOCAL_TENANT,
                idempotency_key=None,
                received_at=now,
                now=now,
                settings=settings,
            )
    assert num_compared >= 8


def test_the_body_of_a_submission_is_quoted_beside_the_default_deadlines(
    sessions: SessionFactory, database_url: str
) -> None:
    settings = ApiSettings(database_url=database_url)
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=now)
        register_learned(session, now)

    def deadlines_s(document: dict[str, Any]) -> list[float]:
        body = Body(io.BytesIO(orjson.dumps(document)), is_lines=False, options={})
        quote = make_quote(
            sessions,
            read_quote_request(body, settings),
            tenant_id=keys.LOCAL_TENANT,
            now=now,
            settings=settings,
        )
        return [row.deadline_s for row in quote.deadlines]

    body = job_body(3, temperature=0.5, name="a set", weight=2.0, best_effort=True)
    without = deadlines_s({name: value for name, value in body.items() if name != "deadline"})

    assert without
    assert deadlines_s(body) == [*without, 3_600]


@pytest.mark.parametrize(
    "request_parts",
    [
        {"content": LINES, "headers": {"Content-Type": "application/x-ndjson"}},
        {"files": {"file": ("set.jsonl", LINES)}},
    ],
    ids=["ndjson", "upload"],
)
def test_lines_and_uploads_take_deadlines_with_commas(
    api: httpx.Client, request_parts: dict[str, Any]
) -> None:
    params = {"model": MODEL, "deadlines": "2h, 30s,1h"}

    quote = api.post("/v1/quotes", params=params, **request_parts).json()

    assert quote["num_problems"] == 2
    assert [row["deadline_s"] for row in quote["deadlines"]] == [30.0, 3_600.0, 7_200.0]


def test_a_deadline_too_soon_is_refused_in_its_row(learned: httpx.Client) -> None:
    quote = quoted(learned, SIZE | {"deadlines": ["1s", "1h"]})

    early, late = quote["deadlines"]
    assert (early["feasible"], early["verdict"], early["accuracy"]) == (False, "refused", None)
    assert (late["feasible"], late["verdict"]) == (True, "accepted")
    assert 1 < quote["earliest_finish_s"] < 3_600


def test_the_shortest_deadline_for_an_accuracy_is_found(learned: httpx.Client) -> None:
    rows = quoted(learned, SIZE)["deadlines"]
    between = 0.5 * (rows[0]["accuracy"] + rows[-1]["accuracy"])

    quote = quoted(learned, SIZE | {"min_accuracy": between})
    out_of_reach = quoted(learned, SIZE | {"min_accuracy": 1.0})

    assert rows[0]["deadline_s"] < quote["shortest_deadline_s"] < rows[-1]["deadline_s"]
    verdicts = [row["verdict"] for row in quote["deadlines"]]
    assert verdicts == sorted(verdicts, reverse=True)
    assert set(verdicts) == {"accepted", "accepted_degraded"}
    assert out_of_reach["shortest_deadline_s"] is None


def test_load_makes_the_same_set_later_or_less_accurate(learned: httpx.Client) -> None:
    free = quoted(learned, SIZE | {"deadlines": ["2m"]})
    assert learned.post("/v1/jobs", json=job_body(200, deadline="100s")).status_code == 201

    busy = quoted(learned, SIZE | {"deadlines": ["2m"]})

    assert busy["deadlines"][0]["accuracy"] <= free["deadlines"][0]["accuracy"]
    assert busy["deadlines"][0]["finish_p95_s"] > free["earliest_finish_s"]


def test_a_cold_start_says_so(api: httpx.Client) -> None:
    basis = quoted(api, SIZE)["forecast_basis"]

    assert basis["num_problems_seen"] == basis["num_branches_seen"] == 0
    assert "Cold start" in basis["note"]
    assert basis["latency"][0]["method"] == "made up for tests"


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"num_problems": None}, "problems", "'num_problems' in place"),
        ({"num_problems": 0}, "num_problems", "greater than or equal to 1"),
        ({"num_problems": 10**6}, "num_problems", "at most 100,000"),
        ({"num_problems": "many"}, "num_problems", "integer"),
        ({"prompt_chars": None}, "mean_prompt_tokens", "either"),
        ({"mean_prompt_tokens": 5}, "mean_prompt_tokens", "either"),
        ({"prompt_chars": -1}, "prompt_chars", "greater than 0"),
        ({"prompt_chars": 10**7}, "prompt_chars", "at most 200,000"),
        ({"prompt_chars": 2_000}, "prompt_chars", "takes 512 tokens"),
        (
            {"prompt_chars": None, "mean_prompt_tokens": 512},
            "mean_prompt_tokens",
            "no room for an answer",
        ),
        ({"problems": [{"prompt": "x"}]}, "num_problems", "not both"),
        ({"problems": [], "num_problems": None, "prompt_chars": None}, "problems", "empty"),
        ({"problems": {}}, "problems", "a list of problems"),
        ({"deadlines": ["1m", "soon"]}, "deadlines[1]", "Cannot read the deadline 'soon'"),
        ({"deadlines": ["1m", "0.5s"]}, "deadlines[1]", "too soon"),
        ({"deadlines": ["8d"]}, "deadlines[0]", "too far"),
        ({"deadlines": "2020-01-01T00:00:00Z"}, "deadlines[0]", "in the past"),
        ({"deadlines": [60]}, "deadlines[0]", "string"),
        ({"deadlines": ["1m"] * 33}, "deadlines", "at most 32"),
        ({"deadline": "never"}, "deadline", "Cannot read"),
        ({"min_accuracy": 1.5}, "min_accuracy", "less than or equal to 1"),
        ({"max_branches": 65}, "max_branches", "at most 64"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"model": "gpt-9"}, "model", "Known models: demo"),
        ({"model": None}, "model", "string"),
        ({"branches": 4}, "branches", "Unknown parameter"),
    ],
)
def test_bad_input_is_named(
    api: httpx.Client, change: dict[str, Any], param: str, words: str
) -> None:
    response = api.post("/v1/quotes", json=SIZE | change)

    error = error_of(response)
    assert response.status_code == 400, error
    assert error["param"] == param
    assert words in error["message"]


def test_bodies_that_cannot_be_read_are_refused_as_for_a_submission(api: httpx.Client) -> None:
    for content, kind, status, code in (
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_type"),
        (b"{}\n", "application/x-ndjson", 400, "missing_required_parameter"),
        (b"x", "text/plain", 415, "unsupported_media_type"),
    ):
        headers = {"Content-Type": kind}
        params = {"model": MODEL} if "ndjson" in kind else {}
        response = api.post("/v1/quotes", content=content, headers=headers, params=params)
        assert (response.status_code, error_of(response)["code"]) == (status, code)
    unkeyed = httpx.post(f"{api.base_url}/v1/quotes", json=SIZE)
    assert (unkeyed.status_code, error_of(unkeyed)["code"]) == (401, "missing_api_key")


def test_a_model_that_nobody_serves_now_is_a_503_to_retry(
    api: httpx.Client, worker: str, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        assert stop_worker(session, name=worker, incarnation="w1-1", now=datetime.now(UTC))

    response = api.post("/v1/quotes", json=SIZE)

    assert (response.status_code, error_of(response)["code"]) == (503, "no_capacity")
    assert int(response.headers["retry-after"]) > 0


def test_the_examples_of_the_document_are_valid(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    operation = document["paths"]["/v1/quotes"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 2
    for example in examples.values():
        quoted(api, json.loads(json.dumps(example["value"] | {"model": MODEL})))
