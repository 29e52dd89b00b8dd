"""Who follows events by id misses none, whatever order transactions begin and end in."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db.events import (
    is_told_in_full,
    last_event_id,
    list_events,
    list_new_events,
    list_tenant_events,
    record,
)
from db.keys import LOCAL_TENANT, create_tenant
from db.session import SessionFactory
from db.wake import listen
from scheduler.core.event_kinds import EventKind
from scheduler.core.messages import EVENT_CHANNEL
from tests.factories import NOW, stored_job


def _told(sessions: SessionFactory, job_id: str, after: int = 0) -> list[tuple[str, object]]:
    with sessions() as session:
        return [(e.kind, e.data.get("n")) for e in list_events(session, job_id, after=after)]


@pytest.fixture
def job_id(sessions: SessionFactory) -> str:
    with sessions.begin() as session:
        return stored_job(session)


def test_ids_grow_in_the_order_of_commits(sessions: SessionFactory, job_id: str) -> None:
    first, second = sessions(), sessions()
    for number, session in enumerate((first, second)):
        record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": number}, now=NOW)
    second.commit()
    with sessions() as session:
        position = last_event_id(session)
    first.commit()
    first.close()
    second.close()

    assert _told(sessions, job_id) == [("job.queued", None), ("plan.stored", 1), ("plan.stored", 0)]
    assert _told(sessions, job_id, after=position) == [("plan.stored", 0)]


def test_writers_take_turns_from_the_first_id_to_the_end_of_the_commit(
    sessions: SessionFactory, job_id: str
) -> None:
    with sessions() as slow, sessions() as other:
        record(slow, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": 1}, now=NOW)
        assert len(list_events(slow, job_id)) == 2  # Written, not committed.
        other.execute(text("SET lock_timeout = '50ms'"))
        record(other, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": 2}, now=NOW)
        with pytest.raises(OperationalError, match="lock timeout"):
            other.commit()
        slow.commit()

    assert _told(sessions, job_id) == [("job.queued", None), ("plan.stored", 1)]


def test_what_is_rolled_back_was_never_told(sessions: SessionFactory, job_id: str) -> None:
    with sessions() as session:
        record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": 1}, now=NOW)
        session.rollback()
        record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": 2}, now=NOW)
        session.commit()

    assert _told(sessions, job_id)[1:] == [("plan.stored", 2)]


def test_events_wait_for_the_end_of_a_savepoint(sessions: SessionFactory, job_id: str) -> None:
    with sessions.begin() as session:
        with session.begin_nested():
            record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={"n": 1}, now=NOW)
        with sessions() as other:
            assert len(list_events(other, job_id)) == 1
            other.execute(text("SELECT pg_advisory_xact_lock(0)"))
    assert len(_told(sessions, job_id)) == 2


def test_a_commit_with_events_is_announced(
    sessions: SessionFactory, database_url: str, job_id: str
) -> None:
    with listen(database_url, (EVENT_CHANNEL,)) as listener:
        with sessions.begin() as session:
            record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={}, now=NOW)
            assert not listener.wait(0.05)
        assert listener.wait(5.0)


def test_events_are_found_by_job_by_tenant_and_up_to_an_id(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        mine, another = stored_job(session), stored_job(session)
        tenant_id = create_tenant(session, name="other", now=NOW)
        theirs = stored_job(session, tenant_id=tenant_id)
    with sessions() as session:
        first, second, third = list_tenant_events(session, LOCAL_TENANT) + list_tenant_events(
            session, tenant_id
        )
        assert [first.job_id, second.job_id, third.job_id] == [mine, another, theirs]

        def found(until: int, job_ids: Sequence[str], tenant_ids: Sequence[str]) -> list[str]:
            events = list_new_events(
                session, after=0, until=until, job_ids=job_ids, tenant_ids=tenant_ids, limit=9
            )
            return [event.job_id for event in events]

        assert found(third.id, [another], [tenant_id]) == [another, theirs]
        assert found(second.id, [], [LOCAL_TENANT, tenant_id]) == [mine, another]
        assert found(third.id, [], []) == []


def test_a_job_is_told_in_full_from_its_last_event_on(
    sessions: SessionFactory, job_id: str
) -> None:
    with sessions.begin() as session:
        record(session, job_id=job_id, kind=EventKind.JOB_EXPIRED, data={}, now=NOW)
    with sessions() as session:
        last = last_event_id(session)
        assert is_told_in_full(session, job_id, after=last)
        assert not is_told_in_full(session, job_id, after=last - 1)
