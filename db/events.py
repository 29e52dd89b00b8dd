"""Job events: one row per transition or decision, so that history and latency are plain SQL.

Theory of operation: ids of events grow in the order in which their transactions commit. Who has
read up to an id has missed nothing, whatever commits later, so streams and pages go on from an id.
For that, events wait in their session: they are written just before it commits, under
a lock that is held to the end of the commit. Nothing else is locked after it, so it closes no
circle of waits.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, event, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, SessionTransaction

from db.deliveries import Notice, announce
from db.models import JobEvent
from scheduler.core.deliveries import OF_JOBS
from scheduler.core.event_kinds import ENDS, EventKind
from scheduler.core.messages import EVENT_CHANNEL


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
    if not session.in_transaction():
        session.begin()  # A rollback of nothing would not be heard of.
    session.info.setdefault(_RECORDED, []).extend(
        {"job_id": event.job_id, "at": now.isoformat(), "kind": event.kind, "data": event.data}
        for event in happened
    )
    told = [
        Notice(event.job_id, OF_JOBS[event.kind], event.data)
        for event in happened
        if event.kind in OF_JOBS
    ]
    announce(session, told, now=now)


_RECORDED = "recorded_events"

_LOCK_KEY = 0x534C4B45
"""Advisory lock of writers of events; any constant that no other lock of Slackline uses."""

# One statement, as the lock is held for every round trip more. A row comes out of the join when the
# lock is held, and gets its id then.
_WRITE = text("""
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(:lock_key))
INSERT INTO job_events (job_id, tenant_id, at, kind, data)
SELECT new.job_id, jobs.tenant_id, new.at, new.kind, new.data
FROM held
CROSS JOIN jsonb_to_recordset(:recorded) AS new (
    position integer, job_id text, at timestamptz, kind text, data jsonb
)
JOIN jobs ON jobs.id = new.job_id
ORDER BY new.position
RETURNING pg_notify(:channel, '')
""").bindparams(bindparam("recorded", type_=JSONB))


@event.listens_for(Session, "before_commit")
def _write_last(session: Session) -> None:
    # A savepoint is released without what the whole transaction recorded.
    if not session.in_nested_transaction():
        _write(session)


def _write(session: Session) -> None:
    recorded = session.info.pop(_RECORDED, None)
    if recorded:
        session.flush()
        numbered = [{"position": number, **row} for number, row in enumerate(recorded)]
        session.execute(
            _WRITE, {"lock_key": _LOCK_KEY, "recorded": numbered, "channel": EVENT_CHANNEL}
        )


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, ended: SessionTransaction) -> None:
    if not ended.nested:
        session.info.pop(_RECORDED, None)


def list_events(
    session: Session,
    job_id: str,
    *,
    after: int = 0,
    limit: int = 1000,
    kinds: Collection[str] | None = None,
) -> list[JobEvent]:
    """Events of the job with an id above `after`, oldest first; `kinds` filters.

    What this transaction recorded itself is among them.
    """
    _write(session)
    statement = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after)
    if kinds is not None:
        statement = statement.where(JobEvent.kind.in_(kinds))
    return list(session.scalars(statement.order_by(JobEvent.id).limit(limit)))


def list_tenant_events(
    session: Session, tenant_id: str, *, after: int = 0, limit: int = 1000
) -> list[JobEvent]:
    """Events of all jobs of the tenant with an id above `after`, oldest first."""
    return list(
        session.scalars(
            select(JobEvent)
            .where(JobEvent.tenant_id == tenant_id, JobEvent.id > after)
            .order_by(JobEvent.id)
            .limit(limit)
        )
    )


def list_new_events(
    session: Session,
    *,
    after: int,
    until: int,
    job_ids: Collection[str],
    tenant_ids: Collection[str],
    limit: int,
) -> list[JobEvent]:
    """Events of these jobs and tenants with ids above `after` and up to `until`, oldest first."""
    is_wanted = or_(JobEvent.job_id.in_(job_ids), JobEvent.tenant_id.in_(tenant_ids))
    return list(
        session.scalars(
            select(JobEvent)
            .where(JobEvent.id > after, JobEvent.id <= until, is_wanted)
            .order_by(JobEvent.id)
            .limit(limit)
        )
    )


def last_event_id(session: Session) -> int:
    """Id of the newest event of all; 0 before the first."""
    return session.scalar(select(func.max(JobEvent.id))) or 0


def is_told_in_full(session: Session, job_id: str, *, after: int) -> bool:
    """Whether the job's last event has an id up to `after`."""
    end = select(JobEvent.id).where(
        JobEvent.job_id == job_id, JobEvent.kind.in_(ENDS), JobEvent.id <= after
    )
    return session.scalar(end) is not None
