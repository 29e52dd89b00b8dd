"""How the supervisor tells that a child of Slackline works; each check answers at once.

A store that is away is an answer, not an error: nothing works without it.
"""

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache

import httpx
from sqlalchemy.exc import OperationalError

from db.leader import is_led
from db.session import SessionFactory, transaction
from db.workers import list_workers

FRESH_HEARTBEAT = timedelta(seconds=3)
"""Workers beat every second; three missed beats mean that it is not there."""


def api_is_ready(url: str) -> bool:
    """Whether the API says that it can serve."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=2.0, verify=_tls())
        return answer.status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def worker_is_ready(
    sessions: SessionFactory, name: str, *, started_after: datetime | None = None
) -> bool:
    """Whether a worker of this name is registered, not stopped, and its heart beats.

    Args:
        started_after: Of a worker that was killed a moment ago the last beat is still fresh; one
            that registered before this instant does not count.
    """
    fresh_after = datetime.now(UTC) - FRESH_HEARTBEAT
    try:
        with transaction(sessions) as session:
            workers = list_workers(session)
    except OperationalError:
        return False
    return any(
        worker.name == name
        and worker.stopped_at is None
        and worker.heartbeat_at >= fresh_after
        and (started_after is None or worker.started_at >= started_after)
        for worker in workers
    )


def scheduler_leads(sessions: SessionFactory) -> bool:
    """Whether a scheduler holds the lead."""
    try:
        with transaction(sessions) as session:
            return is_led(session)
    except OperationalError:
        return False


@cache
def _tls() -> ssl.SSLContext:
    """Kept, as to read the authorities takes longer than the whole check."""
    return httpx.create_ssl_context()
