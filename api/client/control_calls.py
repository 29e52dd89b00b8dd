"""Calls that follow and steer jobs, described once for `Client` and `AsyncClient`."""

import json
from typing import Any
from uuid import uuid4

from api.client.bodies import Deadline, deadline_text
from api.client.requests import Call, Request, Stream, job_path, with_document
from api.client.shapes import Event, Job


def event_stream(job_id: str, after: int) -> Stream[Event]:
    """Events of the job behind the one with this id, as they come."""
    headers = {"Accept": "text/event-stream"}
    request = Request("GET", f"{job_path(job_id)}/events", {"after": after}, headers)
    return Stream(request, _event, separator=b"\n\n")


def change(
    job_id: str,
    *,
    deadline: Deadline | None = None,
    weight: float | None = None,
    best_effort: bool | None = None,
) -> Call[Job]:
    """Give a live job another deadline or weight; what is left out stays.

    Args:
        best_effort: Take an earlier deadline without a promise rather than be refused.

    Raises:
        SlacklineError: `deadline_infeasible` with `details["earliest_finish_at"]` when an earlier
            deadline cannot be kept; then nothing has changed.
    """
    due = None if deadline is None else deadline_text(deadline)
    terms = {"deadline": due, "weight": weight, "best_effort": best_effort}
    return Call(with_document(Request("PATCH", job_path(job_id), terms)), _job)


def retry(
    job_id: str,
    *,
    deadline: Deadline,
    degraded: bool | None = None,
    name: str | None = None,
    best_effort: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """A new job of the problems that failed or expired in an ended one.

    Args:
        degraded: Also those whose answer the deadline cut short.
        idempotency_key: As for `submit`.
    """
    wanted = {
        "deadline": deadline_text(deadline),
        "degraded": degraded,
        "name": name,
        "best_effort": best_effort,
    }
    headers = {"Idempotency-Key": idempotency_key or f"slk-{uuid4().hex}"}
    request = Request("POST", f"{job_path(job_id)}/retry", wanted, headers)
    return Call(with_document(request), _job)


def _event(message: bytes) -> Event | None:
    """The event of a message; None for a sign of life."""
    lines = [line for line in message.split(b"\n") if line.startswith(b"data: ")]
    found: Event | None = None
    if lines:
        found = json.loads(b"\n".join(line.removeprefix(b"data: ") for line in lines))
    return found


def _job(document: Any) -> Job:
    found: Job = document
    return found
