"""The scheduler as a process: one leads, another takes over, restarts of the store are survived."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import psycopg
import pytest
import redis
from sqlalchemy import select

from db.leader import is_led
from db.models import Batch, HistoryHour, Job
from db.reports.hours import mark_ended
from db.session import SessionFactory, driver_url
from db.wake import notify
from infra.processes import bound
from infra.servers import free_port
from scheduler.config import SchedulerSettings
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Decisions, JobPlanned
from scheduler.core.snapshot import Snapshot
from scheduler.loop import serve
from scheduler.tick import Decide
from tests.factories import forecast, plan, stored_job, stored_worker
from tests.stack import slackline


def _wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.02)


def _is_led(sessions: SessionFactory) -> bool:
    with sessions() as session:
        return is_led(session)


def _submit(sessions: SessionFactory, *, deadline_s: float = 600.0) -> str:
    """A job for a worker that is alive now."""
    now = datetime.now(UTC)
    with sessions.begin() as session:
        stored_worker(session, now=now)
        job_id = stored_job(
            session, created_at=now, deadline_at=now + timedelta(seconds=deadline_s)
        )
        notify(session)
    return job_id


def _is_sent(sessions: SessionFactory, job_id: str) -> bool:
    with sessions() as session:
        sent = session.scalars(select(Batch.sent_at).where(Batch.job_id == job_id)).all()
    return bool(sent) and all(sent)


@pytest.fixture
def served(database_url: str, redis_url: str) -> Iterator[None]:
    """A scheduler in a thread."""
    yield from _serve(SchedulerSettings(database_url=database_url, redis_url=redis_url))


@pytest.fixture
def served_without_broker(database_url: str) -> Iterator[None]:
    """A scheduler in a thread whose Redis is down."""
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    yield from _serve(SchedulerSettings(database_url=database_url, redis_url=nobody))


def _serve(settings: SchedulerSettings, policy: Decide = decide) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=serve, args=(settings, stop), kwargs={"policy": policy})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_another_policy_may_decide(
    sessions: SessionFactory, database_url: str, redis_url: str
) -> None:
    settings = SchedulerSettings(database_url=database_url, redis_url=redis_url)

    def seven_branches(snapshot: Snapshot, _config: SchedulerConfig) -> Decisions:
        wanted = plan(num_branches=7)
        return Decisions(
            plans=tuple(JobPlanned(job.id, wanted, forecast()) for job in snapshot.jobs)
        )

    with contextmanager(_serve)(settings, seven_branches):
        job_id = _submit(sessions)

        def is_planned() -> bool:
            with sessions() as session:
                return session.get_one(Job, job_id).num_branches == 7

        _wait_for(is_planned)


def test_the_leader_sums_up_hours_that_are_over(
    sessions: SessionFactory, database_url: str, redis_url: str
) -> None:
    settings = SchedulerSettings(
        database_url=database_url, redis_url=redis_url, history_interval_s=0.05
    )
    with sessions.begin() as session:
        mark_ended(session, [datetime.now(UTC) - timedelta(hours=2)])

    def is_summed_up() -> bool:
        with sessions() as session:
            return session.scalars(select(HistoryHour.state)).all() == ["rolled"]

    with contextmanager(_serve)(settings):
        _wait_for(is_summed_up)


@pytest.mark.usefixtures("served")
def test_a_submission_is_dispatched_within_moments(
    sessions: SessionFactory, redis_url: str
) -> None:
    _wait_for(lambda: _is_led(sessions))
    job_id = _submit(sessions)
    _wait_for(lambda: _is_sent(sessions, job_id))
    with redis.Redis.from_url(redis_url) as client:
        num_messages = client.llen("w1")
    with sessions() as session:
        assert num_messages == len(session.scalars(select(Batch.id)).all())


@pytest.mark.usefixtures("served_without_broker")
def test_ticks_go_on_while_redis_is_down(sessions: SessionFactory) -> None:
    job_id = _submit(sessions)
    due_id = _submit(sessions, deadline_s=1.0)

    def both_are_handled() -> bool:
        with sessions() as session:
            batches = session.scalars(select(Batch).where(Batch.job_id == job_id)).all()
            is_expired = session.get_one(Job, due_id).state == "expired"
        return is_expired and bool(batches) and all(batch.sent_at is None for batch in batches)

    _wait_for(both_are_handled)


@pytest.mark.usefixtures("served")
def test_a_restart_of_the_store_is_survived(sessions: SessionFactory, database_url: str) -> None:
    _wait_for(lambda: _is_led(sessions))
    with psycopg.connect(driver_url(database_url)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    job_id = _submit(sessions)
    _wait_for(lambda: _is_sent(sessions, job_id))


def test_another_process_leads_when_the_leader_is_killed(
    sessions: SessionFactory, database_url: str, redis_url: str
) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            bound(slackline("scheduler"), signal.SIGKILL),
            env={**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url},
            stderr=subprocess.PIPE,
        )

    with start() as leader:
        try:
            _wait_for(lambda: _is_led(sessions))
            with start() as standby:
                try:
                    assert standby.stderr is not None
                    while b"stands_by" not in standby.stderr.readline():
                        assert standby.poll() is None
                    leader.kill()
                    leader.wait(timeout=10)
                    job_id = _submit(sessions)
                    _wait_for(lambda: _is_sent(sessions, job_id))
                finally:
                    standby.send_signal(signal.SIGTERM)
                assert standby.wait(timeout=10) == 0
        finally:
            leader.kill()
    _wait_for(lambda: not _is_led(sessions))
