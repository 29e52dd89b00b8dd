"""Job events: one row per transition or decision, so that history and latency are plain SQL."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db.deliveries import Notice, announce
from db.models import JobEvent
from scheduler.core.deliveries import OF_JOBS
from scheduler.core.event_kinds import EventKind


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a job. `data` must be JSON."""

    job_id: str
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)


def record(
    session: Session, *, job_id: str, kind: EventKind, data: dict[str, Any], now: datetime
) -> None:
    """Add one event to the job's history."""
    record_all(session, [Event(job_id, kind, data)], now=now)


def record_all(session: Session, events: Iterable[Event], *, now: datetime) -> None:
    """Add several events of one instant, in order, and tell the webhooks that asked for them."""
    happened = list(events)
    rows = [
        {"job_id": event.job_id, "at": now, "kind": event.kind, "data": event.data}
        for event in happened
    ]
    if rows:
        session.execute(insert(JobEvent), rows)
    told = [
        Notice(event.job_id, OF_JOBS[event.kind], event.data)
        for event in happened
        if event.kind in OF_JOBS
    ]
    announce(session, told, now=now)


def list_events(
    session: Session,
    job_id: str,
    *,
    after: int = 0,
    limit: int = 1000,
    kinds: Collection[str] | None = None,
) -> list[JobEvent]:
    """Events of the job with an id above `after`, oldest first; `kinds` filters."""
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after)
    if kinds is not None:
        statement = statement.where(JobEvent.kind.in_(kinds))
    return list(session.scalars(statement.order_by(JobEvent.id).limit(limit)))
