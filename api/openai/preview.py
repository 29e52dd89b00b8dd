"""Judges a new batch before its file is read: by its size, its first line and the load now.

What is told here at once is decided again when the file has been read, on what it really holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.orm import Session

from api.errors import ApiError, retry_after
from api.new_jobs import new_job, view_of
from api.openai.bodies import prompt_of
from api.prompts import prompt_tokens
from api.refusals import RefusedError
from api.schemas.submission import SetOptions
from api.settings import ApiSettings
from db.files import get_file, read_chunk
from db.jobs import NewJob
from db.models import OpenaiBatch
from db.openai_batches import recently_created
from db.snapshot import read_snapshot
from scheduler.core.admission import weigh
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Rejected, RejectReason
from scheduler.core.snapshot import Snapshot

_HOUR = timedelta(hours=1)
_SAMPLE_LINES = 20


def check_rate(session: Session, batch: OpenaiBatch, settings: ApiSettings) -> None:
    """Refuse a batch that is one too many of the last hour, itself included.

    Raises:
        ApiError: 429.
    """
    recent = recently_created(session, batch.tenant_id, batch.created_at - _HOUR)
    if recent.number <= settings.max_batches_per_h:
        return
    wait_s = (recent.first_at + _HOUR - batch.created_at).total_seconds()
    raise ApiError(
        429,
        "rate_limit_exceeded",
        f"More than {settings.max_batches_per_h:,} batches were created within an hour. The next"
        f" one may come in {wait_s:,.0f} seconds.",
        kind="rate_limit_error",
        headers={"Retry-After": retry_after(wait_s)},
    )


def check_feasible(
    session: Session, batch: OpenaiBatch, settings: ApiSettings, *, now: datetime
) -> None:
    """Refuse a batch that cannot keep its window beside what is promised to others.

    Raises:
        RefusedError: With a 429 that tells the earliest feasible finish.
    """
    snapshot = read_snapshot(session, now)
    job = _expected_job(session, batch, snapshot, now)
    if job is None:
        return
    best_effort = bool(batch.options.get("best_effort"))
    config = settings.scheduler
    verdict = weigh(snapshot, view_of(job, snapshot), config, best_effort=best_effort).verdict
    if isinstance(verdict, Rejected) and verdict.reason is RejectReason.DEADLINE_INFEASIBLE:
        refused = RefusedError(verdict, job, best_effort=best_effort)
        refused.error = _too_busy(refused, job, snapshot, config)
        raise refused


def _too_busy(
    refused: RefusedError, job: NewJob, snapshot: Snapshot, config: SchedulerConfig
) -> ApiError:
    """The refusal as a 429; waiting helps only where idle workers would meet the window."""
    earliest_s = refused.rejected.earliest_finish_s or 0.0
    late_s = earliest_s - (job.deadline_at - job.created_at).total_seconds()
    idle = replace(snapshot, jobs=(), batches=())
    alone = weigh(idle, view_of(job, idle), config).verdict
    headers = {"Retry-After": retry_after(late_s)}
    if isinstance(alone, Rejected):
        headers["x-should-retry"] = "false"
    return ApiError(
        429,
        refused.error.code,
        refused.error.message,
        param="completion_window",
        kind="rate_limit_error",
        headers=headers,
        extra=refused.error.extra,
    )


def _expected_job(
    session: Session, batch: OpenaiBatch, snapshot: Snapshot, now: datetime
) -> NewJob | None:
    """The job that the batch would be if all lines were like its first ones; None if unreadable."""
    file = get_file(session, batch.tenant_id, batch.input_file_id, now=now)
    if file is None or not file.num_lines:
        return None
    head = read_chunk(session, file.id, 0).splitlines()
    if file.num_lines > len(head):
        # The last line of the chunk may be cut off. There is none if the file goes right now.
        del head[-1:]
    requests = [request for line in head[:_SAMPLE_LINES] if (request := _request(line))]
    try:
        model = requests[0]["body"]["model"]
        chars = [len(prompt_of(request["body"], batch.endpoint).text) for request in requests]
        common = {name: each for name, each in batch.options.items() if name != "grading"}
        options = SetOptions.model_validate({**common, "model": model})
    except (ApiError, LookupError, TypeError, ValueError):
        return None
    mean_chars = sum(chars) / len(chars)
    return new_job(
        options,
        tenant_id=batch.tenant_id,
        due_at=batch.expires_at,
        num_problems=file.num_lines,
        mean_prompt_tokens=prompt_tokens(snapshot, options, mean_chars),
        now=now,
    )


def _request(line: bytes) -> Mapping[str, Any] | None:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return request if isinstance(request, dict) else None
