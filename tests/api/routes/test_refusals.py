"""Refusals are kept apart from jobs."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from db.session import SessionFactory, transaction
from db.workers import stop_worker
from tests.api.live import error_of, job_body
from tests.factories import MODEL


def test_a_refusal_is_kept_with_what_was_asked_for_and_makes_no_job(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    error = error_of(api.post("/v1/jobs", json=job_body(50, deadline="1s", max_branches=8)))

    (refusal,) = api.get("/v1/refusals").json()["data"]

    assert (refusal["verdict"], refusal["reason"]) == ("refused", "deadline_infeasible")
    assert (refusal["model"], refusal["num_problems"], refusal["max_branches"]) == (MODEL, 50, 8)
    assert datetime.fromisoformat(refusal["earliest_finish_at"]) == datetime.fromisoformat(
        error["earliest_finish_at"]
    )
    assert refusal["deadline_at"] > refusal["at"]
    assert not any(stored_rows().values())


def test_a_refusal_for_want_of_a_worker_has_no_earliest_finish(
    api: httpx.Client, worker: str, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        assert stop_worker(session, name=worker, incarnation="w1-1", now=datetime.now(UTC))
    assert api.post("/v1/jobs", json=job_body()).status_code == 503

    (refusal,) = api.get("/v1/refusals").json()["data"]

    assert (refusal["reason"], refusal["earliest_finish_at"]) == ("no_capacity", None)


def test_bad_input_and_quotes_are_no_refusals(api: httpx.Client) -> None:
    for body in (job_body(deadline="soon"), job_body(model="gpt-9"), job_body(problems=[])):
        assert api.post("/v1/jobs", json=body).status_code == 400
    quote = api.post("/v1/quotes", json={"model": MODEL, "num_problems": 9, "prompt_chars": 9})
    assert quote.status_code == 200

    assert api.get("/v1/refusals").json()["data"] == []


def test_pages_of_refusals_are_newest_first_complete_and_ones_own(
    api: httpx.Client, stranger: httpx.Client
) -> None:
    for size in (50, 51, 52):
        assert api.post("/v1/jobs", json=job_body(size, deadline="1s")).status_code == 422

    first = api.get("/v1/refusals", params={"limit": 2}).json()
    rest = api.get("/v1/refusals", params={"after": first["next_after"]}).json()

    assert [refusal["num_problems"] for refusal in first["data"]] == [52, 51]
    assert [refusal["num_problems"] for refusal in rest["data"]] == [50]
    assert (first["has_more"], rest["has_more"], rest["next_after"]) == (True, False, None)
    assert stranger.get("/v1/refusals").json()["data"] == []
    for wrong in ({"after": "x"}, {"limit": 0}, {"limit": 1001}):
        assert api.get("/v1/refusals", params=wrong).status_code == 400
