"""The latency report and the list of workers."""

from datetime import UTC, datetime

import httpx
import pytest

from db.branches import insert_branches
from db.endings import finish_jobs
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from db.workers import stop_worker
from tests.api.live import error_of
from tests.factories import (
    MODEL,
    NOW,
    after,
    branch_row,
    claimed_batch,
    problem_answer,
    stored_job,
    stored_worker,
)

WINDOW = {"start": after(-10).isoformat(), "end": after(100).isoformat()}


@pytest.fixture(autouse=True)
def finished_job(sessions: SessionFactory) -> str:
    """A finished job of one problem with four branches that ended one second apart."""
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=1)
        batch = claimed_batch(session, job_id, num_problems=1)
        (problem,) = batch.problems
        rows = [
            branch_row(problem.id, index, finished_at=after(index), queue_time_s=float(index))
            for index in range(4)
        ]
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
        answers = [problem_answer(problem.id)]
        assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)
    with transaction(sessions) as session:
        assert finish_jobs(session, now=after(5)) == [job_id]
    return job_id


def test_the_report_has_percentiles_by_stage_and_attainment(api: httpx.Client) -> None:
    report = api.get("/v1/reports/latency", params=WINDOW).json()

    (group,) = report["data"]
    assert (group["group"], group["num_branches"], group["num_jobs"]) == (None, 4, 1)
    assert group["queue_time_s"] == pytest.approx({"p50": 1.5, "p90": 2.7, "p99": 2.97}, rel=0.01)
    assert group["tpot_s"]["p50"] == pytest.approx(0.01, rel=0.01)
    assert group["ttft_s"]["p50"] == pytest.approx(0.2, rel=0.01)
    assert group["e2e_latency_s"]["p50"] == pytest.approx(1.5, rel=0.01)
    assert group["slo_attainment"] == 1.0


@pytest.mark.parametrize(
    ("group_by", "group"),
    [("model", MODEL), ("tenant", "ten_local"), ("hour", NOW.replace(minute=0).isoformat())],
)
def test_the_report_splits_by_model_tenant_and_hour(
    api: httpx.Client, group_by: str, group: str
) -> None:
    report = api.get("/v1/reports/latency", params=WINDOW | {"group_by": group_by}).json()

    assert [row["group"] for row in report["data"]] == [group]
    assert report["group_by"] == group_by


def test_an_empty_window_has_no_groups_or_null_percentiles(api: httpx.Client) -> None:
    report = api.get("/v1/reports/latency").json()

    for group in report["data"]:
        assert group["num_branches"] == 0
        assert group["queue_time_s"]["p50"] is None


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"group_by": "color"}, "group_by"),
        ({"start": "2026-01-01T00:00:00"}, "start"),
        ({"end": "yesterday"}, "end"),
        ({"start": after(1).isoformat(), "end": NOW.isoformat()}, "start"),
        ({"model": "a\0"}, "model"),
    ],
)
def test_bad_parameters_are_named(api: httpx.Client, params: dict[str, str], param: str) -> None:
    response = api.get("/v1/reports/latency", params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_workers_are_alive_silent_or_stopped(api: httpx.Client, sessions: SessionFactory) -> None:
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        stored_worker(session, "old", now=NOW)
        stored_worker(session, "gone", incarnation="gone-1", now=now)
        assert stop_worker(session, name="gone", incarnation="gone-1", now=now)

    workers = api.get("/v1/workers").json()["data"]

    assert {worker["name"]: worker["status"] for worker in workers} == {
        "gone": "stopped",
        "old": "silent",
        "w1": "alive",
    }
    assert workers[0]["draft_lengths"] == [0, 2, 4]
    assert workers[0]["device"] == "test"
