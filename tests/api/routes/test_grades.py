"""The grade book: what is graded how, in every format, and what is refused."""

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow.parquet
import pytest

from db.problems import answer_problems
from db.session import SessionFactory, transaction
from db.submissions import SubmissionGrade, grade_submissions
from tests.api.live import error_of, job_body
from tests.factories import MODEL, claimed_batch, problem_answer

NDJSON = {"Content-Type": "application/x-ndjson"}
QUERY = {"model": MODEL, "deadline": "1h"}
SUBMISSIONS = [{"id": "ann", "answer": "7"}, {"id": "bob", "text": 'no idea,\n"really"'}]


def problem(**fields: Any) -> dict[str, Any]:
    return {"id": "p0", "prompt": "3+4=", "reference_answer": "7", **fields}


def submit(api: httpx.Client, *problems: dict[str, Any], **options: Any) -> httpx.Response:
    return api.post("/v1/jobs", json=job_body(problems=list(problems), **options))


@pytest.fixture
def graded(api: httpx.Client, sessions: SessionFactory) -> str:
    """Id of a job of which one of two problems is answered and graded."""
    both = [problem(submissions=SUBMISSIONS), problem(id="p1", submissions=SUBMISSIONS)]
    job_id: str = submit(api, *both).json()["id"]
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id, num_problems=1, now=now)
        (claimed,) = batch.problems
        assert [s.answer for s in claimed.submissions] == ["7", None]
        lease = {"batch_id": batch.id, "epoch": batch.epoch}
        grades = [
            SubmissionGrade(0, 0, "7", "right", "the same as the reference 7", None),
            SubmissionGrade(0, 1, None, "ungradable", "no final answer found", None),
        ]
        assert not grade_submissions(
            session, batch_id=batch.id, epoch=batch.epoch + 1, grades=grades, now=now
        )
        assert grade_submissions(session, **lease, grades=grades, now=now)
        again = [SubmissionGrade(0, 0, "8", "wrong", "graded twice", None)]
        assert grade_submissions(session, **lease, grades=again, now=now)
        answer = problem_answer(claimed.id, grade_reason="because", finished_at=now)
        assert answer_problems(session, **lease, answers=[answer])
    return job_id


def test_a_page_has_ours_and_the_submissions(api: httpx.Client, graded: str) -> None:
    page = api.get(f"/v1/jobs/{graded}/grades", params={"limit": 1}).json()
    rows = [
        (row["problem_id"], row["submission_id"], row["answer"], row["grade"], row["reason"])
        for row in page["data"]
    ]
    assert rows == [
        ("p0", None, "7", "right", "because"),
        ("p0", "ann", "7", "right", "the same as the reference 7"),
        ("p0", "bob", None, "ungradable", "no final answer found"),
    ]
    assert page["data"][0]["method"] == "equivalence"
    assert page["has_more"]
    rest = api.get(f"/v1/jobs/{graded}/grades", params={"after": page["next_after"]}).json()
    assert [row["grade"] for row in rest["data"]] == [None, None, None]
    assert not rest["has_more"]


def test_every_format_tells_the_same(api: httpx.Client, graded: str) -> None:
    rows = api.get(f"/v1/jobs/{graded}/grades").json()["data"]
    in_lines = api.get(f"/v1/jobs/{graded}/grades", params={"format": "ndjson"})
    assert [json.loads(line) for line in in_lines.text.splitlines()] == rows
    as_csv = api.get(f"/v1/jobs/{graded}/grades", params={"format": "csv"})
    assert as_csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert f"{graded}.csv" in as_csv.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(as_csv.text, newline="")))
    assert table == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
    as_parquet = api.get(f"/v1/jobs/{graded}/grades", params={"format": "parquet"})
    read = pyarrow.parquet.read_table(io.BytesIO(as_parquet.content)).to_pylist()
    assert [row["grade"] for row in read] == [row["grade"] for row in rows]
    assert read[1]["graded_at"] == datetime.fromisoformat(rows[1]["graded_at"])


def test_results_carry_grades_and_on_request_submissions(api: httpx.Client, graded: str) -> None:
    first = api.get(f"/v1/jobs/{graded}/results").json()["data"][0]
    assert (first["grade"], first["grade_reason"], first["submissions"]) == (
        "right", "because", None,
    )  # fmt: skip
    page = api.get(f"/v1/jobs/{graded}/results", params={"submissions": "true"}).json()["data"]
    assert [s["grade"] for s in page[0]["submissions"]] == ["right", "ungradable"]


def test_a_server_without_pyarrow_says_so(
    api: httpx.Client, graded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    response = api.get(f"/v1/jobs/{graded}/grades", params={"format": "parquet"})
    assert response.status_code == 400
    assert error_of(response)["code"] == "parquet_unavailable"
    assert "slackline[parquet]" in error_of(response)["message"]


def test_a_stranger_sees_no_grades(stranger: httpx.Client, graded: str) -> None:
    assert stranger.get(f"/v1/jobs/{graded}/grades").status_code == 404


def test_the_grading_of_a_job_is_told(api: httpx.Client) -> None:
    options = {"method": "numeric", "absolute": 0.01}
    response = submit(api, problem(), grading=options)
    assert response.status_code == 201, response.text
    assert response.json()["grading"] == options | {"relative": 0.0}
    assert submit(api, problem(), grading="exact").json()["grading"]["method"] == "exact"


def test_options_in_the_query_may_be_a_name_or_json(api: httpx.Client) -> None:
    for grading in ("choice", '{"method": "choice", "choices": "AB"}'):
        response = api.post(
            "/v1/jobs",
            params=QUERY | {"grading": grading},
            content=json.dumps(problem()),
            headers=NDJSON,
        )
        assert response.status_code == 201, response.text
        assert response.json()["grading"]["method"] == "choice"


MANY = [{"id": str(number), "answer": "1"} for number in range(1001)]
BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("method", {}, {"grading": {"method": "magic"}}, "magic"),
    ("method of the problem", {"grading": {"method": "magic"}}, {}, "magic"),
    ("no method", {"grading": {"absolute": 1}}, {}, "method"),
    ("option of another", {"grading": {"method": "exact", "absolute": 1}}, {}, "absolute"),
    ("negative", {"grading": {"method": "numeric", "absolute": -1}}, {}, "or equal to 0"),
    ("pattern", {"grading": {"method": "regex", "pattern": "("}}, {}, "missing )"),
    ("look-around", {"grading": {"method": "regex", "pattern": "(?=a)"}}, {}, "look-around"),
    ("reference as pattern", {"reference_answer": "("}, {"grading": "regex"}, "missing )"),
    ("choices", {"grading": {"method": "choice", "choices": "A"}}, {}, "choices"),
    ("two answers", {"submissions": [{"answer": "1", "text": "2"}]}, {}, "either"),
    ("no answer", {"submissions": [{"id": "a"}]}, {}, "either"),
    ("same id", {"submissions": [{"id": "a", "answer": "1"}] * 2}, {}, "'a'"),
    ("too many", {"submissions": MANY}, {}, "1,001"),
    ("too long", {"submissions": [{"text": "x" * 500_001}]}, {}, "500,000"),
    ("nothing to do", {}, {"solve": False}, "only submissions"),
    (
        "no reference",
        {"reference_answer": None, "submissions": [{"answer": "1"}]},
        {"solve": False},
        "'reference_answer'",
    ),
    (
        "no pattern",
        {"reference_answer": None, "submissions": [{"answer": "1"}]},
        {"grading": {"method": "regex"}},
        "'pattern'",
    ),
]


@pytest.mark.parametrize(
    ("fields", "options", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_what_cannot_be_graded_is_refused(
    api: httpx.Client,
    stored_rows: Callable[[], dict[str, int]],
    fields: dict[str, Any],
    options: dict[str, Any],
    words: str,
) -> None:
    before = stored_rows()
    response = submit(
        api, problem(id="first", submissions=SUBMISSIONS), problem(**fields), **options
    )
    assert response.status_code == 400
    assert words in error_of(response)["message"]
    assert stored_rows() == before


def test_a_fault_on_a_line_is_told_with_its_number(api: httpx.Client) -> None:
    lines = [problem(id="good"), problem(grading={"method": "regex", "pattern": "["})]
    response = api.post(
        "/v1/jobs",
        params=QUERY,
        content="\n".join(json.dumps(line) for line in lines),
        headers=NDJSON,
    )
    assert response.status_code == 400
    error = error_of(response)
    assert error["line"] == 2
    assert "Line 2" in error["message"]


def test_another_submission_makes_another_request(api: httpx.Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    body = job_body(problems=[problem(submissions=SUBMISSIONS)])
    assert api.post("/v1/jobs", json=body, headers=key).status_code == 201
    assert api.post("/v1/jobs", json=body, headers=key).status_code == 200
    body["problems"][0]["submissions"] = SUBMISSIONS[:1]
    assert api.post("/v1/jobs", json=body, headers=key).status_code == 409
