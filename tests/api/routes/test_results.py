"""Results: pages, streams and latency traces."""

import json

import httpx
import pytest

from db.branches import insert_branches
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from tests.api.live import error_of, job_body
from tests.factories import branch_row, claimed_batch, problem_answer, stored_job, unfinished_row

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def job_id(sessions: SessionFactory) -> str:
    """A job of five problems, two of them answered with two branches each."""
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=5)
        batch = claimed_batch(session, job_id, num_problems=2)
        rows = [
            row
            for problem in batch.problems
            for row in (branch_row(problem.id, 0), unfinished_row(problem.id, 1))
        ]
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
        answers = [problem_answer(p.id, vote_share=0.5, degraded=True) for p in batch.problems]
        assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)
        return job_id


def test_pages_follow_the_order_of_submission_while_the_job_runs(
    api: httpx.Client, job_id: str
) -> None:
    seen, params = [], {"limit": "2"}
    while True:
        page = api.get(f"/v1/jobs/{job_id}/results", params=params).json()
        seen += page["data"]
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        params = {"limit": "2", "after": page["next_after"]}

    assert [result["id"] for result in seen] == ["p0", "p1", "p2", "p3", "p4"]
    assert [result["state"] for result in seen] == ["answered"] * 2 + ["pending"] * 3
    first, last = seen[0], seen[-1]
    assert (first["answer"], first["vote_share"], first["is_correct"]) == ("7", 0.5, True)
    assert (first["degraded"], first["num_branches_finished"]) == (True, 4)
    assert first["num_branches_planned"] == 4
    assert first["branches"] is None
    assert (last["answer"], last["vote_share"], last["finished_at"]) == (None, None, None)


@pytest.mark.parametrize(
    ("headers", "params"), [(NDJSON, {}), ({}, {"format": "ndjson"})], ids=["accept", "format"]
)
def test_a_stream_has_one_result_per_line(
    api: httpx.Client, job_id: str, headers: dict[str, str], params: dict[str, str]
) -> None:
    page = api.get(f"/v1/jobs/{job_id}/results").json()["data"]

    response = api.get(f"/v1/jobs/{job_id}/results", headers=headers, params=params)

    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in response.text.splitlines()] == page


def test_a_stream_crosses_its_pages(api: httpx.Client) -> None:
    job_id = api.post("/v1/jobs", json=job_body(1_201, deadline="1d")).json()["id"]

    for params in ({}, {"branches": "true"}):
        response = api.get(f"/v1/jobs/{job_id}/results", headers=NDJSON, params=params)
        ids = [json.loads(line)["id"] for line in response.text.splitlines()]
        assert ids == [f"p{number}" for number in range(1_201)]


def test_branches_carry_their_latency_traces(api: httpx.Client, job_id: str) -> None:
    page = api.get(f"/v1/jobs/{job_id}/results", params={"branches": "true"}).json()["data"]

    finished, aborted = page[0]["branches"]
    assert (finished["branch_index"], aborted["branch_index"]) == (0, 1)
    assert (finished["finish_reason"], aborted["finish_reason"]) == ("stop", "abort")
    assert (finished["queue_time_s"], finished["ttft_s"], finished["decode_time_s"]) == (
        0.1, 0.2, 0.3,
    )  # fmt: skip
    assert finished["tpot_s"] == pytest.approx(0.01)
    assert finished["drafted_by_position"] == [15, 15]
    assert finished["accepted_by_position"] == [10, 5]
    assert (finished["worker"], finished["text"]) == ("w1", "3+4=7")
    assert page[4]["branches"] == []


@pytest.mark.parametrize(
    "params",
    [{"limit": "0"}, {"limit": "1001"}, {"after": "x"}, {"after": str(2**31)}, {"format": "csv"}],
)
def test_bad_parameters_are_named(api: httpx.Client, job_id: str, params: dict[str, str]) -> None:
    response = api.get(f"/v1/jobs/{job_id}/results", params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == next(iter(params))
