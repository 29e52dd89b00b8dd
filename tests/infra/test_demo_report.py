"""The numbers that the demo prints of a finished job."""

import io
from typing import cast

from rich.console import Console

from api.client.shapes import Branch, Forecast, Job, Report, Result
from infra.demo_report import job_summary, job_table

FORECAST: Forecast = {
    "finish_at": "2026-01-05T12:00:40Z",
    "finish_p95_at": "2026-01-05T12:00:50Z",
    "accuracy": 0.7,
}

JOB = cast(
    Job,
    {
        "name": "arithmetic",
        "model": "demo",
        "num_problems": 3,
        "degraded": 1,
        "progress": {"answered": 3, "expired": 0},
        "created_at": "2026-01-05T12:00:00Z",
        "deadline_at": "2026-01-05T12:01:00Z",
        "finished_at": "2026-01-05T12:00:45.500Z",
        "met_deadline": True,
        "accuracy": 2 / 3,
        "mean_acceptance_length": 2.5,
        "admitted": FORECAST,
    },
)


def result(num_branches: int, *drafts: int) -> Result:
    branches = [cast(Branch, {"num_speculative_tokens": draft}) for draft in drafts]
    return cast(Result, {"num_branches_planned": num_branches, "branches": branches})


def test_durations_count_from_the_submission() -> None:
    summary = job_summary(JOB, [])
    assert summary["finish_s"] == 45.5
    assert summary["predicted_finish_s"] == 40.0
    assert summary["deadline_s"] == 60.0


def test_the_split_is_the_one_that_most_were_given() -> None:
    summary = job_summary(JOB, [result(4, 2, 2), result(4, 2, 1), result(16, 1)])
    assert (summary["num_branches"], summary["num_speculative_tokens"]) == (4, 2)


def test_a_job_without_branches_has_no_split() -> None:
    assert job_summary(JOB, [])["num_branches"] is None


def test_the_table_says_what_was_predicted_beside_what_came() -> None:
    report = cast(Report, {"data": []})
    output = io.StringIO()
    Console(file=output, width=100).print(job_table(JOB, job_summary(JOB, [result(4, 2)]), report))
    for words in ("40.0 s (P95 50.0 s)", "45.5 s", "70.0%", "66.7%", "4 branches, draft 2", "met"):
        assert words in output.getvalue()
