"""The latency report and the list of workers."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow.parquet
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


@pytest.mark.parametrize(
    ("group_by", "group"),
    [
        ("engine", "replay"), ("family", "any"), ("deadline_class", "1m"), ("split", "4x2"),
        ("day", NOW.replace(hour=0).isoformat()),
    ],
)  # fmt: skip
def test_branches_are_grouped_by_what_they_ran_under(
    api: httpx.Client, group_by: str, group: str
) -> None:
    report = api.get("/v1/reports/speculation", params=WINDOW | {"group_by": group_by}).json()

    assert [(row["group"], row["num_branches"]) for row in report["data"]] == [(group, 4)]


def test_filters_leave_the_rest_out(api: httpx.Client) -> None:
    def num_jobs(**filters: str) -> list[int]:
        report = api.get("/v1/reports/attainment", params=WINDOW | filters).json()
        return [row["num_jobs"] for row in report["data"]]

    # The job's own split differs from that of its branches, which drafted 2 tokens.
    matching = {"model": MODEL, "engine": "replay", "family": "any", "split": "4x0"}
    assert num_jobs(**matching, deadline_class="1m") == [1]
    for name, value in matching.items():
        other = "9x9" if name == "split" else value + "x"
        assert num_jobs(**(matching | {name: other})) == []
    assert num_jobs(deadline_class="10m") == []


def test_each_group_has_a_row_for_each_hour(api: httpx.Client) -> None:
    params = WINDOW | {"group_by": "model", "every": "hour"}
    (row,) = api.get("/v1/reports/latency", params=params).json()["data"]

    assert row["group"] == MODEL
    assert datetime.fromisoformat(row["at"]) == NOW.replace(minute=0)


def test_a_stranger_sees_nothing_of_it(stranger: httpx.Client) -> None:
    for name in (
        "latency",
        "attainment",
        "calibration",
        "accuracy",
        "speculation",
        "costs",
        "compare",
    ):
        report = stranger.get(f"/v1/reports/{name}", params=WINDOW)
        assert (report.status_code, report.json()["data"]) == (200, []), name


@pytest.mark.parametrize(
    "name", ["latency", "attainment", "calibration", "accuracy", "speculation", "costs"]
)
def test_a_table_has_the_numbers_of_the_report(api: httpx.Client, name: str) -> None:
    params = WINDOW | {"group_by": "model"}
    (row,) = api.get(f"/v1/reports/{name}", params=params).json()["data"]

    text = api.get(f"/v1/reports/{name}", params=params | {"format": "csv"})
    packed = api.get(f"/v1/reports/{name}", params=params | {"format": "parquet"})

    assert text.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    (from_csv,) = csv.DictReader(io.StringIO(text.text))
    (from_parquet,) = pyarrow.parquet.read_table(io.BytesIO(packed.content)).to_pylist()
    expected = _flat(row)
    assert from_parquet == expected
    assert {column: _read(cell) for column, cell in from_csv.items()} == expected


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": number for inner, number in value.items()}
        else:
            flat[name] = value
    return flat


def _read(cell: str) -> Any:
    if cell == "":
        return None
    return cell if cell == MODEL else json.loads(cell)


def test_a_table_of_an_empty_range_has_its_columns(api: httpx.Client) -> None:
    params = {"start": "2020-01-01T00:00Z", "end": "2020-02-01T00:00Z", "format": "csv"}
    lines = api.get("/v1/reports/latency", params=params).text.splitlines()

    assert len(lines) == 1
    assert lines[0].startswith("group,at,num_branches,num_jobs,queue_time_s.p50,")


def test_two_ranges_are_compared_number_by_number(api: httpx.Client) -> None:
    params = {
        "report": "latency", "group_by": "model",
        "before_start": after(-10).isoformat(), "before_end": after(2).isoformat(),
        "start": after(2).isoformat(), "end": after(100).isoformat(),
    }  # fmt: skip
    answer = api.get("/v1/reports/compare", params=params)

    changes = {change["metric"]: change for change in answer.json()["data"]}
    assert {change["group"] for change in changes.values()} == {MODEL}
    assert changes["num_branches"]["before"] == changes["num_branches"]["after"] == 2
    assert changes["num_branches"] == changes["num_branches"] | {"difference": 0, "ratio": 1}
    # No job ended in the later range, so there is nothing to compare with.
    assert changes["slo_attainment"] == changes["slo_attainment"] | {
        "before": 1.0, "after": None, "difference": None, "ratio": None,
    }  # fmt: skip
    p50 = changes["queue_time_s.p50"]
    assert (p50["before"], p50["after"]) == pytest.approx((0.5, 2.5), rel=0.01)
    assert p50["difference"] == pytest.approx(p50["after"] - p50["before"])
    assert p50["ratio"] == pytest.approx(p50["after"] / p50["before"])
    assert len(api.get("/v1/reports/compare", params=params | {"format": "csv"}).text) > 100


def test_the_range_before_is_compared_by_default(api: httpx.Client) -> None:
    answer = api.get("/v1/reports/compare", params=WINDOW | {"report": "accuracy"}).json()

    assert answer["before_end_at"] == answer["start_at"]
    assert datetime.fromisoformat(answer["before_start_at"]) == after(-120)
    assert "widths[4].accuracy.value" in {change["metric"] for change in answer["data"]}


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
        ({"model": ""}, "model"),
        ({"split": "8"}, "split"),
        ({"deadline_class": "2m"}, "deadline_class"),
        ({"every": "week"}, "every"),
        ({"every": "day", "group_by": "hour"}, "every"),
        ({"format": "xml"}, "format"),
        ({"group_by": "hour", "start": "2020-01-01T00:00Z"}, "start"),
        ({"every": "day", "start": "0001-01-01T00:00Z"}, "start"),
    ],
)
def test_bad_parameters_are_named(api: httpx.Client, params: dict[str, str], param: str) -> None:
    response = api.get("/v1/reports/latency", params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == param


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"report": "weather"}, "report"),
        ({"group_by": "hour"}, "group_by"),
        ({"before_start": after(5).isoformat(), "before_end": NOW.isoformat()}, "before_start"),
        ({"start": "0001-01-01T00:00Z"}, "start"),
    ],
)
def test_bad_comparisons_are_named(api: httpx.Client, params: dict[str, str], param: str) -> None:
    response = api.get("/v1/reports/compare", params=params)

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
