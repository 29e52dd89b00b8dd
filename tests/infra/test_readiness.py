"""When the supervisor takes a worker for ready."""

from datetime import UTC, datetime, timedelta

from db.session import SessionFactory, transaction
from infra.readiness import worker_is_ready
from tests.factories import stored_worker


def test_the_last_beat_of_an_earlier_run_makes_no_worker_ready(sessions: SessionFactory) -> None:
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        stored_worker(session, "w1", now=now)
    assert worker_is_ready(sessions, "w1")
    assert worker_is_ready(sessions, "w1", started_after=now)
    assert not worker_is_ready(sessions, "w1", started_after=now + timedelta(milliseconds=1))
    assert not worker_is_ready(sessions, "w2")
