"""History is summed up, and forgotten as far as the retention says, without a change of reports."""

import threading
from datetime import timedelta

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.orm import DeclarativeBase

from db.branches import insert_branches
from db.models import Branch, HistoryHour, Job, JobEvent, OpenaiBatchJob, Problem
from db.partitions import WEEK, Week, first_job_id, weeks_of
from db.reports import Selection, accuracy_report, latency_report
from db.reports.hours import mark_ended
from db.session import SessionFactory, transaction
from scheduler.config import RetentionConfig, SchedulerSettings
from scheduler.history import Historian
from tests import history
from tests.factories import NOW, after, branch_row, claimed_batch, stored_job

FOREVER = RetentionConfig()
A_DAY = RetentionConfig(branches_days=1, events_days=1)


def _count(sessions: SessionFactory, table: type[DeclarativeBase]) -> int:
    with transaction(sessions) as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def _told(sessions: SessionFactory) -> object:
    selection = Selection(NOW - timedelta(days=3), NOW)
    with transaction(sessions) as session:
        return latency_report(session, selection), accuracy_report(session, selection)


def test_everything_is_kept_unless_the_operator_says_otherwise(
    sessions: SessionFactory, database_url: str
) -> None:
    history.load(database_url, 500, until=NOW, days=2)
    before = _count(sessions, Branch)

    Historian(sessions, FOREVER).tend(NOW + timedelta(days=1000), threading.Event())

    assert _count(sessions, Branch) == before
    with transaction(sessions) as session:
        assert set(session.scalars(select(HistoryHour.state))) == {"rolled"}


def test_old_weeks_go_whole_and_reports_stay_as_they_were(
    sessions: SessionFactory, database_url: str
) -> None:
    # NOW is a Monday at noon: the first jobs were made in the week before.
    history.load(database_url, 2_000, until=NOW, days=2)
    later = NOW + timedelta(days=1)
    Historian(sessions, FOREVER).tend(later, threading.Event())
    told, num_problems = _told(sessions), _count(sessions, Problem)
    monday = Week.of(NOW)
    with transaction(sessions) as session:
        is_of_this_week = Branch.job_id >= monday.jobs["first"]
        kept = set(session.scalars(select(Branch.job_id).where(is_of_this_week)))
        last = session.scalars(
            select(func.max(Job.finished_at)).where(Job.id < monday.jobs["first"])
        ).one()
    assert kept
    assert _count(sessions, Branch) >= 2_000

    # Until a day after the last of its jobs ended, a week is kept.
    assert last is not None
    last = max(last, monday.start_at)
    Historian(sessions, A_DAY).tend(last + timedelta(hours=23), threading.Event())
    assert _count(sessions, Branch) >= 2_000
    Historian(sessions, A_DAY).tend(last + timedelta(hours=26), threading.Event())

    with transaction(sessions) as session:
        assert set(session.scalars(select(Branch.job_id))) == kept
        assert monday in weeks_of(session, "branches")
        assert Week(monday.start_at - WEEK) not in weeks_of(session, "branches")
    assert _count(sessions, Problem) == num_problems
    assert _told(sessions) == told


def test_branches_of_a_job_that_still_runs_stay(sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, id=f"{first_job_id(NOW)}{1:020x}", num_problems=1)
        batch = claimed_batch(session, job_id)
        row = branch_row(batch.problems[0].id)
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=[row])

    Historian(sessions, A_DAY).tend(NOW + timedelta(days=9), threading.Event())

    assert _count(sessions, Branch) == 1
    assert _count(sessions, JobEvent) > 0


_OPEN_BATCH = """
WITH batch AS (
    INSERT INTO openai_batches (
        id, tenant_id, request_sha256, endpoint, input_file_id, completion_window, options,
        output_expires_after_s, state, output_file_id, error_file_id, created_at, expires_at,
        in_progress_at
    ) VALUES (
        'batch_1', 'ten_local', '', '/v1/chat/completions', 'file-1', '24h', '{}',
        60, 'in_progress', 'file-2', 'file-3', :now, :now, :now
    )
    RETURNING id
)
INSERT INTO openai_batch_jobs (job_id, batch_id)
SELECT min(jobs.id), min(batch.id) FROM jobs CROSS JOIN batch
"""


def test_branches_whose_text_an_openai_batch_waits_for_stay(
    sessions: SessionFactory, database_url: str
) -> None:
    history.load(database_url, 300, until=NOW, days=2)
    with transaction(sessions) as session:
        session.execute(text(_OPEN_BATCH), {"now": NOW})

    Historian(sessions, A_DAY).tend(NOW + timedelta(days=19), threading.Event())

    with transaction(sessions) as session:
        (job_id,) = session.scalars(select(OpenaiBatchJob.job_id))
        weeks = set(map(Week.of_job, session.scalars(select(Branch.job_id))))
        assert weeks == {Week.of_job(job_id)}


def test_events_of_old_jobs_go_alone_when_only_they_are_limited(
    sessions: SessionFactory, database_url: str
) -> None:
    history.load(database_url, 300, until=NOW, days=2)
    with transaction(sessions) as session:
        session.execute(
            text(
                "INSERT INTO job_events (job_id, tenant_id, at, kind)"
                " SELECT id, tenant_id, finished_at, 'x' FROM jobs"
            )
        )
        live = stored_job(session, id=f"{first_job_id(NOW + WEEK)}{1:020x}")

    events_only = RetentionConfig(events_days=1)
    Historian(sessions, events_only).tend(NOW + timedelta(days=9), threading.Event())

    with transaction(sessions) as session:
        assert set(session.scalars(select(JobEvent.job_id))) == {live}
    assert _count(sessions, Branch) >= 300


def test_a_late_row_does_not_undo_the_sums_of_rows_that_are_gone(
    sessions: SessionFactory, database_url: str
) -> None:
    history.load(database_url, 500, until=NOW, days=2)
    historian = Historian(sessions, A_DAY)
    historian.tend(NOW + timedelta(days=9), threading.Event())
    told = _told(sessions)
    with transaction(sessions) as session:
        mark_ended(session, [NOW - timedelta(hours=5)])
    historian.tend(NOW + timedelta(days=9), threading.Event())

    assert _told(sessions) == told


def test_a_pass_ends_soon_after_it_is_asked_to(sessions: SessionFactory, database_url: str) -> None:
    history.load(database_url, 300, until=NOW, days=2)
    stop = threading.Event()
    stop.set()

    Historian(sessions, A_DAY).tend(after(86_400 * 9), stop)

    with transaction(sessions) as session:
        assert set(session.scalars(select(HistoryHour.state))) == {"stale"}


@pytest.mark.parametrize("days", ["0", "0.5", "-1", "soon"])
def test_a_retention_that_makes_no_sense_is_refused(
    days: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACKLINE_RETENTION__BRANCHES_DAYS", days)
    with pytest.raises(ValidationError, match="branches_days"):
        SchedulerSettings(database_url="", redis_url="")


def test_the_retention_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACKLINE_RETENTION__EVENTS_DAYS", "30")
    settings = SchedulerSettings(database_url="", redis_url="")
    assert settings.retention == RetentionConfig(events_days=30)
