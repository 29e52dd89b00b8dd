"""Branches and events lie in the week in which their job was made, and count once there."""

from datetime import UTC, datetime, timedelta

import pytest
import uuid_utils
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.branches import insert_branches
from db.events import list_events
from db.partitions import (
    TABLES,
    WEEK,
    Week,
    first_job_id,
    make_week,
    refresh_statistics,
    weeks_of,
    weeks_to_make,
)
from db.reports.periods import DAY
from db.session import SessionFactory, transaction
from tests.factories import NOW, branch_row, claimed_batch, stored_job


def _job_made(session: Session, at: datetime) -> str:
    return stored_job(session, id=f"{first_job_id(at)}{1:020x}", num_problems=1)


def _places(session: Session, table: str) -> set[str]:
    return set(session.scalars(text(f"SELECT DISTINCT tableoid::regclass::text FROM {table}")))


def _finish(session: Session, job_id: str) -> None:
    batch = claimed_batch(session, job_id)
    row = branch_row(batch.problems[0].id)
    for _ in range(2):  # As when an answer of the store was not heard.
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=[row])


def _make_all(session: Session) -> None:
    for table in TABLES:
        for week in weeks_to_make(session, table, now=NOW):
            assert make_week(session, table, week)


@pytest.mark.parametrize("days", [0, 3, 6.999, 7, 400])
def test_the_week_of_a_job_is_known_by_its_id(days: float) -> None:
    at = Week.of(NOW).start_at + timedelta(days=days)
    week = Week.of(at)

    assert week.start_at <= at < week.end_at
    assert week.start_at.weekday() == 0
    assert Week.of_job(first_job_id(at) + "f" * 20) == week
    assert week.jobs["first"] <= first_job_id(at) < week.jobs["end"]


def test_ids_of_new_jobs_tell_their_week() -> None:
    before = datetime.now(UTC)
    week = Week.of_job(f"job_{uuid_utils.uuid7().hex}")
    assert Week.of(before) <= week <= Week.of(datetime.now(UTC))


def test_rows_that_came_before_their_week_move_into_it(sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        early, late = (_job_made(session, NOW + n * WEEK) for n in (-9, 0))
        _finish(session, early)
    with transaction(sessions) as session:
        assert _places(session, "branches") == {"branches_default"}
        told = [event.id for event in list_events(session, early)]
        _make_all(session)
        _finish(session, late)

    with transaction(sessions) as session:
        weeks = [Week.of(NOW - 9 * WEEK), *(Week.of(NOW + n * WEEK) for n in range(5))]
        for table in TABLES:
            assert weeks_of(session, table) == weeks
            assert weeks_to_make(session, table, now=NOW) == []
            assert _places(session, table) == {week.partition_of(table) for week in weeks[:2]}
        assert [event.id for event in list_events(session, early)] == told
        assert session.scalar(text("SELECT count(*) FROM branches")) == 2


def test_a_statement_about_a_job_looks_into_its_week_only(sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        _make_all(session)
        job_id = first_job_id(NOW) + "0" * 20
        plan = session.scalars(text(f"EXPLAIN SELECT * FROM branches WHERE job_id = '{job_id}'"))
        text_of_plan = "\n".join(plan)
    assert Week.of(NOW).partition_of("branches") in text_of_plan
    assert "default" not in text_of_plan


def test_a_week_that_somebody_writes_to_is_left_for_later(sessions: SessionFactory) -> None:
    with transaction(sessions) as writing:
        _finish(writing, _job_made(writing, NOW))
        with transaction(sessions) as session:
            assert not make_week(session, "branches", Week.of(NOW))
            assert weeks_of(session, "branches") == []
    with transaction(sessions) as session:
        assert make_week(session, "branches", Week.of(NOW))
        assert session.scalar(text("SELECT count(*) FROM branches")) == 1


def test_the_tables_are_looked_at_as_a_whole_once_a_day(sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        _finish(session, _job_made(session, NOW))
    now = datetime.now(UTC)
    for at, num_looks in ((now, 1), (now, 1), (now + 2 * DAY, 2)):
        with transaction(sessions) as session:
            refresh_statistics(session, now=at)
            session.execute(text("SELECT pg_stat_force_next_flush()"))
        with transaction(sessions) as session:
            for table in TABLES:
                looks = text("SELECT analyze_count FROM pg_stat_user_tables WHERE relname = :table")
                assert session.scalar(looks, {"table": table}) == num_looks
