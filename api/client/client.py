"""The Python client: submit a problem set, follow it, read answers and reports."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, cast
from uuid import uuid4

from api.client.bodies import Deadline, deadline_text, grading_text, json_lines, stop_text
from api.client.explanations import Explanation, Quote
from api.client.http import Transport, job_path
from api.client.shapes import (
    Event,
    GradeRow,
    Job,
    JobOptions,
    LatencyReport,
    Problem,
    Result,
    Worker,
)

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_API_KEY = "sk-slk-local"
"""Key of the embedded mode's own tenant; servers that others can reach refuse it."""

TERMINAL_STATES = frozenset({"completed", "expired", "failed", "cancelled"})


class Client:
    """Talks to one Slackline server. Thread-safe; close it or use it in a `with` statement.

    Args:
        base_url: Defaults to `SLACKLINE_URL`, then to the embedded mode's address.
        api_key: Defaults to `SLACKLINE_API_KEY`, then to the embedded mode's key.
        timeout_s: Longest wait for a part of one response.
        retry_for_s: How long to go on trying while the server cannot be reached.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry_for_s: float = 10.0,
    ) -> None:
        self._transport = Transport(
            base_url or os.environ.get("SLACKLINE_URL") or DEFAULT_URL,
            api_key or os.environ.get("SLACKLINE_API_KEY") or DEFAULT_API_KEY,
            timeout_s,
            retry_for_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def submit(
        self,
        problems: Path | Iterable[Problem | str],
        *,
        model: str,
        deadline: Deadline,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
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
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": idempotency_key or f"slk-{uuid4().hex}",
        }
        content = json_lines(problems)
        return cast(
            Job,
            self._transport.request(
                "POST", "/v1/jobs", params=params, headers=headers, content=content
            ),
        )

    def quote(
        self,
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
    ) -> Quote:
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
        if problems is None:
            options = json.dumps({k: v for k, v in params.items() if v is not None}).encode()
            headers = {"Content-Type": "application/json"}
            answer = self._transport.request(
                "POST", "/v1/quotes", headers=headers, content=lambda: options
            )
        else:
            headers = {"Content-Type": "application/x-ndjson"}
            answer = self._transport.request(
                "POST", "/v1/quotes", params=params, headers=headers, content=json_lines(problems)
            )
        return cast(Quote, answer)

    def explain(self, job_id: str) -> Explanation:
        """Why the job is run as it is: what was weighed, why the plan won, and its history."""
        return cast(Explanation, self._transport.request("GET", f"{job_path(job_id)}/explain"))

    def job(self, job_id: str) -> Job:
        """The job as it stands."""
        return cast(Job, self._transport.request("GET", job_path(job_id)))

    def jobs(self, *, state: str | None = None, limit: int | None = None) -> Iterator[Job]:
        """Jobs, newest first; all of them without a `limit`."""
        return self._transport.items("/v1/jobs", params={"state": state}, limit=limit)

    def watch(self, job_id: str, *, poll_s: float = 0.5) -> Iterator[Job]:
        """The job as it changes, its final state last."""
        while True:
            job = self.job(job_id)
            yield job
            if job["state"] in TERMINAL_STATES:
                return
            time.sleep(poll_s)

    def wait(self, job_id: str, *, poll_s: float = 0.5) -> Job:
        """The job once it has ended."""
        return list(self.watch(job_id, poll_s=poll_s))[-1]

    def results(
        self, job_id: str, *, branches: bool = False, submissions: bool = False
    ) -> Iterator[Result]:
        """Results in the order of submission, streamed; also while the job runs.

        Args:
            branches: Include the latency trace of every branch.
            submissions: Include the answers of others with their grades.
        """
        params = {"branches": branches or None, "submissions": submissions or None}
        with self._transport.lines(f"{job_path(job_id)}/results", params=params) as lines:
            for line in lines:
                if line:
                    yield json.loads(line)

    def grades(self, job_id: str) -> Iterator[GradeRow]:
        """The grade book, streamed: per problem our answer and then the submissions."""
        with self._transport.lines(
            f"{job_path(job_id)}/grades", params={"format": "ndjson"}
        ) as lines:
            yield from map(json.loads, lines)

    def grade_book(self, job_id: str, layout: str) -> Iterator[bytes]:
        """The grade book as `csv`, `parquet` or `ndjson`, in pieces of a file."""
        params = {"format": layout}
        with self._transport.pieces(f"{job_path(job_id)}/grades", params=params) as pieces:
            yield from pieces

    def events(self, job_id: str) -> Iterator[Event]:
        """Transitions and decisions in the job's life, oldest first."""
        return self._transport.items(f"{job_path(job_id)}/events")

    def cancel(self, job_id: str) -> Job:
        """Ask the job to stop; answers that are in stay."""
        return cast(Job, self._transport.request("POST", f"{job_path(job_id)}/cancel"))

    def report(
        self,
        *,
        group_by: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> LatencyReport:
        """Latency percentiles and attainment; of the last seven days by default."""
        params = {
            "group_by": group_by,
            "start": start.isoformat() if start else None,
            "end": end.isoformat() if end else None,
        }
        return cast(
            LatencyReport, self._transport.request("GET", "/v1/reports/latency", params=params)
        )

    def workers(self) -> list[Worker]:
        """Workers by name."""
        return cast(list[Worker], self._transport.request("GET", "/v1/workers")["data"])
