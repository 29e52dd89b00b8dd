"""The metrics and the logs of every process, after they did some work."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.promlint import problems_of
from tests.promql import Use, uses_of
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack

NUM_PROBLEMS = 4
ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
TARGET_LABELS = {"job", "instance"}
"""Set by the scraper."""


@pytest.fixture(scope="module")
def job_id(stack: Stack) -> str:
    """A job that has ended."""
    with stack.client() as client:
        job = client.submit(problem_set(NUM_PROBLEMS), model=MODEL, deadline="60s", name="metrics")
        assert client.wait(job["id"])["state"] == "completed"
        return job["id"]


@pytest.fixture(scope="module")
def pages(stack: Stack, metrics_port: int, job_id: str) -> dict[str, str]:  # noqa: ARG001
    """The metrics page of each process."""
    urls = {
        "api": f"{stack.running.api_url}/metrics",
        "scheduler": f"http://127.0.0.1:{metrics_port}/metrics",
        "worker": f"http://127.0.0.1:{metrics_port + 1}/metrics",
    }
    return {name: httpx.get(url).raise_for_status().text for name, url in urls.items()}


def value_of(page: str, name: str, **labels: str) -> float:
    """The sum of a series over labels that are not given."""
    samples = (s for family in text_string_to_metric_families(page) for s in family.samples)
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    assert found, name
    return sum(found)


@pytest.mark.parametrize("process", ["api", "scheduler", "worker"])
def test_a_linter_finds_nothing(pages: dict[str, str], process: str) -> None:
    assert problems_of(pages[process]) == []
    if promtool := shutil.which("promtool"):
        told = subprocess.run(
            [promtool, "check", "metrics"], input=pages[process], text=True, capture_output=True
        )
        assert (told.returncode, told.stderr) == (0, "")


def test_the_linter_finds_what_is_wrong() -> None:
    page = '# TYPE slackline_wait_ms gauge\nslackline_wait_ms{tenant="a"} 1\n'
    assert [problem.rpartition("(")[2] for problem in problems_of(page)] == [
        "Help)",
        "UnitAbbreviations)",
        "slackline_wait_ms: label 'tenant' is not known to be bounded",
    ]


def test_an_operator_sees_what_was_done(pages: dict[str, str]) -> None:
    api, scheduler, worker = pages["api"], pages["scheduler"], pages["worker"]
    assert value_of(api, "slackline_submissions_total", verdict="accepted") >= 1
    assert value_of(api, "slackline_http_requests_total", status="201") >= 1
    assert value_of(api, "slackline_live_workers") == 1
    assert value_of(scheduler, "slackline_scheduler_leads") == 1
    assert value_of(scheduler, "slackline_jobs_ended_total", deadline="met") >= 1
    assert value_of(scheduler, "slackline_batches_planned_total") >= 1
    num_ticks = value_of(scheduler, "slackline_tick_duration_seconds_count")
    assert 0 < value_of(scheduler, "slackline_decide_duration_seconds_count") <= num_ticks
    assert value_of(worker, "slackline_answers_total", outcome="answered") >= NUM_PROBLEMS
    assert value_of(worker, "slackline_branches_total", finish_reason="stop") >= NUM_PROBLEMS
    assert value_of(worker, "slackline_completion_tokens_total") > 0
    drafted = value_of(worker, "slackline_draft_tokens_total")
    assert value_of(worker, "slackline_accepted_draft_tokens_total") <= drafted
    assert value_of(worker, "slackline_rows") == 64
    assert value_of(worker, "slackline_worker_info", model=MODEL, worker="worker-replay") == 1
    assert value_of(worker, "slackline_engine_steps_total") > 0


def test_the_table_of_metrics_is_complete(pages: dict[str, str]) -> None:
    table = (ROOT / "docs" / "observability.md").read_text()
    documented = re.findall(r"^\| (\w+) \| `(\w+)` \| .*? \| (.*) \|$", table, re.MULTILINE)
    assert sorted(documented) == sorted(
        (process, family.name + "_total" * (family.type == "counter"), family.documentation)
        for process, page in pages.items()
        for family in text_string_to_metric_families(page)
        if family.name.startswith("slackline_")
    )


def expressions() -> Iterator[tuple[str, str, str]]:
    """Title, PromQL and legend of whatever draws or alerts."""
    dashboard = json.loads((INFRA / "grafana" / "dashboards" / "slackline.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]
    for group in yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"], ""


def test_every_series_and_label_of_panels_and_alerts_exists(pages: dict[str, str]) -> None:
    known: dict[str, set[str]] = {}
    for page in pages.values():
        for family in text_string_to_metric_families(page):
            # The least slack has no sample while no job lives.
            known.setdefault(family.name, set(TARGET_LABELS))
            for sample in family.samples:
                known.setdefault(sample.name, set(TARGET_LABELS)).update(sample.labels)
    missing: list[tuple[str, Use | str]] = []
    for title, expression, legend in expressions():
        uses = uses_of(expression)
        assert uses, title
        missing += [
            (title, use)
            for use in uses
            if use.name not in known or not use.labels <= known[use.name]
        ]
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        if not shown <= TARGET_LABELS.union(*(use.labels for use in uses)):
            missing.append((title, legend))
    assert missing == []


def test_every_line_about_a_job_or_batch_names_it(stack: Stack, job_id: str) -> None:
    lines: dict[str, list[dict[str, Any]]] = {}
    for name in ("api", "scheduler", "worker-replay"):
        log = (stack.data / "logs" / f"{name}.log").read_text().splitlines()
        lines[name] = [json.loads(line) for line in log]
    for told in lines.values():
        for line in told:
            assert {"event", "level", "timestamp"} <= line.keys()
            if line["event"].startswith(("job.", "batch.")) and line["event"] != "job.refused":
                assert "job_id" in line, line
            if line["event"].startswith("batch."):
                assert "batch_id" in line, line
    ours = [line for told in lines.values() for line in told if line.get("job_id") == job_id]
    assert {line["event"] for line in ours} >= {
        *("job.admitted", "batch.planned", "batch.claimed", "batch.left", "job.ended"),
    }
    # The caller had no trace, so the API began one; every process goes on with it.
    assert len({line["trace_id"] for line in ours}) == 1
    (admitted,) = (line for line in ours if line["event"] == "job.admitted")
    assert admitted["request_id"].startswith("req_")
