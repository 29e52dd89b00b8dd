"""Events of one job or of all: as pages, or as a stream that goes on while they come."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api.auth import Caller, own_job
from api.dependencies import Sessions, Settings
from api.errors import invalid
from api.routes.jobs import NOT_FOUND, JobId
from api.schemas.events import EventOut, EventPage
from api.schemas.operations import ErrorOut
from api.streams import EventStream
from db.events import is_told_in_full, last_event_id, list_events, list_tenant_events
from db.models import JobEvent
from db.session import transaction

router = APIRouter(prefix="/v1", tags=["events"])

OpenStream = Callable[[str | None, int], EventStream]

_STREAM = "text/event-stream"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or with `Accept: text/event-stream` a stream of server-sent events:"
        " `id`, `event` (the kind) and `data` (an event as in a page).",
        "content": {_STREAM: {"schema": {"type": "string"}}},
    },
    429: {"model": ErrorOut, "description": "Too many streams are open."},
}


def _position(
    after: Annotated[
        int | None,
        Query(ge=0, lt=2**63, description="Id of the last event that you have; 0 for none."),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(description="As `after`, before which it goes: browsers send it to resume."),
    ] = None,
) -> int | None:
    if not last_event_id:
        return after
    is_number = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 20
    if not is_number or int(last_event_id) >= 2**63:
        raise invalid(
            "Last-Event-ID",
            f"No event has the id {last_event_id[:100]!r}. Send the id of the last event that you"
            " have, or leave the header out.",
        )
    return int(last_event_id)


def _stream(
    request: Request, caller: Caller, settings: Settings, sessions: Sessions
) -> OpenStream | None:
    """Opens a stream of one job or of all, behind an event; None for who wants a page."""
    if _STREAM not in request.headers.get("accept", "").lower():
        return None
    return lambda job_id, after: EventStream(
        request.app.state.feed, sessions, settings, tenant_id=caller, job_id=job_id, after=after
    )


Position = Annotated[int | None, Depends(_position)]
Stream = Annotated[OpenStream | None, Depends(_stream)]
Limit = Annotated[int, Query(ge=1, le=1000, description="Size of a page.")]


@router.get(
    "/jobs/{job_id}/events",
    summary="History of a job, or its events as they come",
    response_model=EventPage,
    responses={
        **NOT_FOUND,
        **_RESPONSES,
        204: {"description": "Nothing will come any more: the stream was told in full."},
    },
)
def list_job_events(
    job_id: JobId,
    caller: Caller,
    sessions: Sessions,
    position: Position,
    stream: Stream,
    limit: Limit = 1000,
) -> EventPage | Response:
    """Transitions and decisions, oldest first.

    A stream tells progress besides, as `job.progress` without an id, and ends with the job.
    """
    after = position or 0
    with transaction(sessions) as session:
        own_job(session, caller, job_id)
        if stream is None:
            return _page(list_events(session, job_id, after=after, limit=limit + 1), limit)
        if is_told_in_full(session, job_id, after=after):
            # Tells a browser not to ask again.
            return Response(status_code=204)
        after = min(after, last_event_id(session))
    return stream(job_id, after)


@router.get(
    "/events",
    summary="Events of all your jobs",
    response_model=EventPage,
    responses=_RESPONSES,
)
def list_all_events(
    caller: Caller,
    sessions: Sessions,
    position: Position,
    stream: Stream,
    limit: Limit = 1000,
) -> EventPage | Response:
    """Transitions and decisions, oldest first.

    A stream begins with what comes from now on, unless `after` says where, and tells the progress
    of the hundred live jobs with the nearest deadlines besides.
    """
    with transaction(sessions) as session:
        if stream is None:
            found = list_tenant_events(session, caller, after=position or 0, limit=limit + 1)
            return _page(found, limit)
        newest = last_event_id(session)
    after = newest if position is None else min(position, newest)
    return stream(None, after)


def _page(found: list[JobEvent], limit: int) -> EventPage:
    page, has_more = found[:limit], len(found) > limit
    return EventPage(
        data=[EventOut.model_validate(event, from_attributes=True) for event in page],
        has_more=has_more,
        next_after=str(page[-1].id) if has_more else None,
    )
