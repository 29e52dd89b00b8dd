"""Every call of the API, described once for `Client` and `AsyncClient`."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

from api.client.bodies import Deadline, deadline_text, grading_text, json_lines, stop_text
from api.client.requests import Call, Pages, Request, Stream, job_path, with_document
from api.client.shapes import (
    Comparison,
    Event,
    Explanation,
    GradeRow,
    Job,
    JobCost,
    JobOptions,
    Problem,
    Quote,
    Report,
    ReportFilters,
    Result,
    Worker,
)

_NDJSON = "application/x-ndjson"


def submit(
    problems: Path | Iterable[Problem | str],
    *,
    model: str,
    deadline: Deadline,
    idempotency_key: str | None = None,
    **options: Unpack[JobOptions],
) -> Call[Job]:
    """Submit a problem set; a lost connection is retried without submitting twice.

    Args:
        problems: A `.jsonl` file (streamed), a `.json` file with a list of problems, or the
            problems themselves, a string being a prompt.
        idempotency_key: Two submissions with one key make one job; a new key by default.
        options: See `JobOptions`.

    Raises:
        SlacklineError: `deadline_infeasible` with `details["earliest_finish_at"]` when the
            deadline cannot be met; other codes for bad input.
    """
    params = {
        "model": model,
        "deadline": deadline_text(deadline),
        **options,
        "stop": stop_text(options.get("stop")),
        "grading": grading_text(options.get("grading")),
    }
    headers = {
        "Content-Type": _NDJSON,
        "Idempotency-Key": idempotency_key or f"slk-{uuid4().hex}",
    }
    return Call(Request("POST", "/v1/jobs", params, headers, json_lines(problems)), _as_it_is)


def quote(
    problems: Path | Iterable[Problem | str] | None = None,
    *,
    model: str,
    deadlines: Iterable[Deadline] = (),
    num_problems: int | None = None,
    mean_prompt_tokens: float | None = None,
    prompt_chars: float | None = None,
    family: str | None = None,
    max_branches: int | None = None,
    max_tokens: int | None = None,
    min_accuracy: float | None = None,
    weight: float | None = None,
) -> Call[Quote]:
    """Ask what deadlines would buy, without running anything.

    Args:
        problems: As for `submit`; without them give `num_problems`, and `mean_prompt_tokens` or
            `prompt_chars`.
        deadlines: Deadlines to quote; by default from the earliest feasible finish to where
            accuracy stops to grow.
        prompt_chars: Mean characters of a prompt.
    """
    params = {
        "model": model,
        "deadlines": ",".join(deadline_text(deadline) for deadline in deadlines) or None,
        "num_problems": num_problems,
        "mean_prompt_tokens": mean_prompt_tokens,
        "prompt_chars": prompt_chars,
        "family": family,
        "max_branches": max_branches,
        "max_tokens": max_tokens,
        "min_accuracy": min_accuracy,
        "weight": weight,
    }
    asked = Request("POST", "/v1/quotes", params, {"Content-Type": _NDJSON})
    if problems is not None:
        return Call(replace(asked, content=json_lines(problems)), _as_it_is)
    return Call(with_document(asked), _as_it_is)


def explain(job_id: str) -> Call[Explanation]:
    """Why the job is run as it is: what was weighed, why the plan won, and its history."""
    return Call(Request("GET", f"{job_path(job_id)}/explain"), _as_it_is)


def job(job_id: str) -> Call[Job]:
    """The job as it stands."""
    return Call(Request("GET", job_path(job_id)), _as_it_is)


def jobs(*, state: str | None = None, limit: int | None = None) -> Pages[Job]:
    """Jobs, newest first; all of them without a `limit`."""
    return Pages(Request("GET", "/v1/jobs", {"state": state}), limit)


def results(job_id: str, *, branches: bool = False, submissions: bool = False) -> Stream[Result]:
    """Results in the order of submission, streamed; also while the job runs.

    Args:
        branches: Include the latency trace of every branch.
        submissions: Include the answers of others with their grades.
    """
    params = {"branches": branches or None, "submissions": submissions or None}
    return Stream(
        Request("GET", f"{job_path(job_id)}/results", params, {"Accept": _NDJSON}), json.loads
    )


def grades(job_id: str) -> Stream[GradeRow]:
    """The grade book, streamed: per problem our answer and then the submissions."""
    return Stream(Request("GET", f"{job_path(job_id)}/grades", {"format": "ndjson"}), json.loads)


def grade_book(job_id: str, layout: str) -> Stream[bytes]:
    """The grade book as `csv`, `parquet` or `ndjson`, in pieces of a file."""
    request = Request("GET", f"{job_path(job_id)}/grades", {"format": layout})
    return Stream(request, bytes, separator=None)


def events(job_id: str) -> Pages[Event]:
    """Transitions and decisions in the job's life, oldest first."""
    return Pages(Request("GET", f"{job_path(job_id)}/events"))


def cancel(job_id: str) -> Call[Job]:
    """Ask the job to stop; answers that are in stay."""
    return Call(Request("POST", f"{job_path(job_id)}/cancel"), _as_it_is)


def cost(job_id: str) -> Call[JobCost]:
    """Row-seconds and tokens that the job took so far, split by what they brought."""
    return Call(Request("GET", f"{job_path(job_id)}/cost"), _as_it_is)


def report(
    kind: str = "latency",
    *,
    group_by: str | None = None,
    every: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    **filters: Unpack[ReportFilters],
) -> Call[Report]:
    """What happened in a range of time; in the last seven days by default.

    Args:
        kind: `latency`, `attainment`, `calibration`, `accuracy`, `speculation` or `costs`.
        group_by: `model`, `engine`, `tenant`, `family`, `deadline_class`, `split`, `hour` or `day`.
        every: `hour` or `day`, for rows over time within each group.
        filters: See `ReportFilters`.
    """
    params = {
        "group_by": group_by,
        "every": every,
        "start": _text(start),
        "end": _text(end),
        **filters,
    }
    return Call(Request("GET", f"/v1/reports/{kind}", params), _as_it_is)


def comparison(
    kind: str = "latency",
    *,
    group_by: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    before_start: datetime | None = None,
    before_end: datetime | None = None,
    **filters: Unpack[ReportFilters],
) -> Call[Comparison]:
    """Every number of a report beside that of an earlier range.

    Args:
        kind: As for `report`.
        before_start: By default the range before `start`, as long as the other.
        filters: See `ReportFilters`.
    """
    params = {
        "report": kind,
        "group_by": group_by,
        "start": _text(start),
        "end": _text(end),
        "before_start": _text(before_start),
        "before_end": _text(before_end),
        **filters,
    }
    return Call(Request("GET", "/v1/reports/compare", params), _as_it_is)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def workers() -> Call[list[Worker]]:
    """Workers by name."""
    return Call(Request("GET", "/v1/workers"), lambda document: document["data"])


def _as_it_is(document: Any) -> Any:
    return document
