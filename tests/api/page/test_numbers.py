"""Every number of every view, charts included, is one that the API told."""

import math
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.api.page.answers import Answers
from tests.api.page.browser import CHROMIUM
from tests.replay_files import MODEL

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

_SUMS = {"num_live", "num_rows", "max_rows", "rows", "num_waiting"}
"""Numbers of the overview that add up a list, or are capped; checked below."""
_SHOWN = """() => [...document.querySelectorAll("main data")].map((each) => ({
    name: each.dataset.name, value: each.getAttribute("value"), text: each.textContent,
}))"""
_BARE = """() => [...document.querySelectorAll("main td.num, main .tile .value, main .facts dd")]
    .filter((cell) => /\\d/.test(cell.textContent) && !cell.querySelector("data, time, code"))
    .map((cell) => cell.textContent)"""
_TRACES = """() => [...document.querySelectorAll("main [data-drawn]")].flatMap((plot) =>
    plot.data.filter((trace) => trace.meta).map((trace) => ({
        ...trace.meta,
        x: [...trace.x],
        y: [...trace.y],
        above: trace.error_y?.array && [...trace.error_y.array],
    })))"""
_DRAWN = """() => {
    const plots = [...document.querySelectorAll("main .chart")];
    return plots.length && plots.every((plot) => plot.querySelector(".main-svg"));
}"""


def check_texts(page: Page, answers: Answers) -> int:
    """Every number in words is one of the API's; returns how many there are."""
    known = answers.numbers()
    shown = page.evaluate(_SHOWN)
    for each in shown:
        if each["value"] == "" or each["name"] in _SUMS:
            continue
        value, name = float(each["value"]), each["name"] or ""
        candidates = known.get(name) or known.get(name.rpartition(".")[2]) or known[""]
        assert any(math.isclose(value, one, abs_tol=1e-9) for one in candidates), each
    assert page.evaluate(_BARE) == []
    return len(shown)


def at(row: dict[str, Any], field: str) -> Any:
    value: Any = row
    for name in field.split("."):
        value = value[name]
    return value


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("group", ["", "model"])
def test_charts_of_the_history_are_the_reports(page: Page, group: str) -> None:
    answers = Answers(page)
    page.goto(f"/history?range=1d&group={group}&percentile=p99&compare=week")
    page.locator("main .report").first.wait_for()
    page.wait_for_function(_DRAWN)
    assert check_texts(page, answers) > 60

    traces = page.evaluate(_TRACES)
    fields = {trace["field"] for trace in traces}
    assert {"slo_attainment.value", "num_jobs", "lateness_histogram", "slack_histogram"} <= fields
    assert {
        "row_seconds.useful",
        "tpot_s.p99",
        "e2e_latency_s.p99",
        "accuracy.value",
        "accuracy_of_all",
    } <= fields
    by_group = group or None
    sources = {
        "attainment": answers.reports("attainment", every="hour", group_by=by_group)["data"],
        "latency": answers.reports("latency", every="hour", group_by=by_group)["data"],
        "accuracy": answers.reports("accuracy", group_by=by_group)["data"],
        "speculation": answers.reports("speculation", group_by=by_group)["data"],
        "costs": answers.reports("costs", every="hour", group_by=by_group)["data"],
    }
    (whole,) = answers.reports("attainment", every=None, group_by=None)["data"]
    assert {trace["group"] for trace in traces} <= {"all", "whole", "every", MODEL}
    for trace in traces:
        field = trace["field"]
        if trace["group"] == "whole":
            assert trace["y"] == [each["num_jobs"] for each in whole[field]]
            continue
        rows = next(rows for rows in sources.values() if _has(rows, trace))
        own = [row for row in rows if trace["group"] in ("every", row["group"] or "all")]
        if trace.get("draft") is not None:
            drafts = {each["num_speculative_tokens"]: each for each in own[0]["by_draft"]}
            parts = [p for p in drafts[trace["draft"]]["by_rows"] if p["ge"] is not None]
            assert trace["x"] == [part["ge"] for part in parts]
        elif trace.get("list"):
            parts = own[0][trace["list"]]
        else:
            parts = [row for row in own if "slo" not in field or at(row, field) is not None]
            assert trace["x"] == [part["at"] for part in parts]
        assert trace["y"] == [at(part, field) for part in parts], field
        if trace["above"]:
            highs = [y + off for y, off in zip(trace["y"], trace["above"], strict=True)]
            assert highs == pytest.approx([part["accuracy"]["high"] for part in parts])


def _has(rows: list[dict[str, Any]], trace: dict[str, Any]) -> bool:
    """Whether a trace's numbers are of this report."""
    if "draft" in trace or trace.get("list"):
        return (trace.get("list") or "by_draft") in rows[0]
    return trace["field"].split(".")[0] in rows[0]


@pytest.mark.usefixtures("ended")
def test_the_calibration_is_the_report_and_the_jobs(page: Page) -> None:
    answers = Answers(page)
    page.goto("/calibration?range=1d")
    page.wait_for_function(_DRAWN)
    assert check_texts(page, answers) > 15
    (row,) = answers.reports("calibration")["data"]
    traces = {trace["field"]: trace for trace in page.evaluate(_TRACES)}
    assert traces["actual.value"]["x"] == [part["predicted"] for part in row["reliability"]]
    assert traces["actual.value"]["y"] == [part["actual"]["value"] for part in row["reliability"]]
    known = answers.numbers()
    assert set(traces["admittedS"]["y"]) <= known["took_s"]
    assert set(traces["admittedS"]["x"]) <= known["admitted_s"]
    assert set(traces["admittedP95S"]["x"]) <= known["admitted_p95_s"]


def test_overview_job_and_quote_tell_the_numbers_of_the_api(page: Page, ended: str) -> None:
    answers = Answers(page)
    page.goto(f"/jobs/{ended}?problem=1")
    page.locator("article.opened").wait_for()
    page.get_by_text("At submission", exact=True).wait_for()
    (sooner,) = page.get_by_role("region", name="Parts of the job").locator("tbody tr").all()
    assert sooner.inner_text().endswith("met")
    assert check_texts(page, answers) > 60

    answers = Answers(page)
    page.goto("/")
    page.locator(".tiles").wait_for()
    assert check_texts(page, answers) > 10
    rows = page.locator("[data-name=num_rows], [data-name=max_rows]").all()
    used = page.locator("[data-name=rows], [data-name=max_num_seqs]").all()
    assert [row.get_attribute("value") for row in rows] == [
        row.get_attribute("value") for row in used
    ], "of one worker"

    answers = Answers(page)
    page.goto("/quote?num=40&chars=8")
    page.wait_for_function(_DRAWN)
    assert check_texts(page, answers) > 20
    (trace,) = page.evaluate(_TRACES)
    assert {*trace["x"]} <= answers.numbers()["deadline_s"]
    assert {*trace["y"]} <= answers.numbers()["accuracy"]
