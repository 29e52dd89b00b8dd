"""The scheduler process: leads or stands by, ticks on wake-ups and on a timer, survives restarts.

Theory of operation: one connection listens for wake-ups and carries the leader's advisory lock, so
losing it ends both at once and another process leads. A tick follows every wake-up, at most every
`_MIN_INTERVAL_S`, and comes at least every `_MAX_INTERVAL_S` for what no message announces:
deadlines, silent workers, lost messages. While a process leads, it also learns (`learn`) and keeps
the history (`history`).
"""

import os
import signal
import threading
import time
from datetime import UTC, datetime
from types import FrameType

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from db.leader import try_lead
from db.session import connect, session_factory
from db.wake import Listener, listen
from scheduler import metrics
from scheduler.config import SchedulerSettings
from scheduler.core.decide import decide
from scheduler.dispatch import celery_sender
from scheduler.history import Historian
from scheduler.learn import Learner
from scheduler.tick import Decide, Scheduler

_log = structlog.get_logger(__name__)

_MIN_INTERVAL_S = 0.05
"""Wake-ups within this time share a tick."""

_MAX_INTERVAL_S = 0.5
"""Bounds how late a deadline or a silent worker is noticed, and how long a stop takes."""

_FIRST_RETRY_S = 0.1
_MAX_RETRY_S = 5.0
"""A store that is away is tried again after doubling waits between these two."""


def run(settings: SchedulerSettings) -> None:
    """Schedule until SIGTERM or SIGINT."""
    stop = threading.Event()

    def request_stop(signum: int, _frame: FrameType | None) -> None:
        _log.info("scheduler.stopping", signal=signal.Signals(signum).name)
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    serve(settings, stop)


def serve(settings: SchedulerSettings, stop: threading.Event, *, policy: Decide = decide) -> None:
    """Schedule until `stop` is set; waits out a store that is away."""
    engine = connect(settings.database_url)
    sessions = session_factory(engine)
    send = celery_sender(settings.redis_url)
    scheduler = Scheduler(sessions, send, settings.scheduler, policy=policy)
    learner = Learner(
        sessions,
        interval_s=settings.learn_interval_s,
        num_problems=settings.learn_problems,
    )
    historian = Historian(sessions, settings.retention, interval_s=settings.history_interval_s)
    retry_s = _FIRST_RETRY_S
    _log.info("scheduler.started", pid=os.getpid())
    try:
        while not stop.is_set():
            try:
                with listen(settings.database_url) as listener:
                    if _stand_by(listener, stop):
                        retry_s = _FIRST_RETRY_S
                        with (
                            metrics.LEADS.track_inprogress(),
                            learner.running(),
                            historian.running(),
                        ):
                            _lead(scheduler, listener, stop)
            except (psycopg.Error, DBAPIError) as error:
                _log.warning("store.away", error=str(error), retry_s=retry_s)
                stop.wait(retry_s)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
    finally:
        engine.dispose()
        _log.info("scheduler.stopped")


def _stand_by(listener: Listener, stop: threading.Event) -> bool:
    """Wait for the lead; False when asked to stop before it came."""
    announced = False
    while not stop.is_set():
        if try_lead(listener.connection):
            _log.info("scheduler.leads")
            return True
        if not announced:
            _log.info("scheduler.stands_by")
            announced = True
        # Not `stop.wait`: wake-ups meant for the leader arrive here too and must be read.
        listener.wait(_MAX_INTERVAL_S)
    return False


def _lead(scheduler: Scheduler, listener: Listener, stop: threading.Event) -> None:
    """Tick until asked to stop."""
    while not stop.is_set():
        began_s = time.monotonic()
        scheduler.tick(datetime.now(UTC))
        stop.wait(max(0.0, _MIN_INTERVAL_S - (time.monotonic() - began_s)))
        listener.wait(_MAX_INTERVAL_S)
