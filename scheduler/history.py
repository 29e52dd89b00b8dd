"""Keeps the history: sums up hours that are over, and forgets what is not to be kept.

Theory of operation: a pass runs in a thread of its own while the scheduler leads. It sums up day
after day, the latest first, each in one transaction; then it deletes what is older than the
retention says, chunk by chunk. Passes that are lost, doubled or cut off do no harm.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from db.reports.rollups import due_days, roll_up_day
from db.retention import delete_branches, delete_events, seal_hours
from db.session import SessionFactory, transaction
from scheduler.background import repeating
from scheduler.config import RetentionConfig

_log = structlog.get_logger(__name__)

BUDGET_S = 20.0
"""Seconds after which a pass begins nothing more; the rest waits for the next."""

PATIENCE_S = 2.0
"""How long a stop waits; what is in progress is undone by Postgres."""

_PAUSE_S = 0.05
"""Between two chunks, for others who want the disk."""


class Historian:
    """Keeps rollups up to date and the store from growing without bound."""

    def __init__(
        self, sessions: SessionFactory, retention: RetentionConfig, *, interval_s: float = 20.0
    ) -> None:
        self._sessions = sessions
        self._retention = retention
        self._interval_s = interval_s

    def running(self) -> AbstractContextManager[None]:
        """Keep the history in the background until the end of the block."""
        return repeating("history", self.tend, interval_s=self._interval_s, patience_s=PATIENCE_S)

    def tend(self, now: datetime, stop: threading.Event) -> None:
        """One pass.

        Raises:
            DBAPIError: The store is away.
        """
        give_up_at = time.monotonic() + BUDGET_S

        def goes_on() -> bool:
            return time.monotonic() < give_up_at and not stop.is_set()

        with transaction(self._sessions) as session:
            days = due_days(session, now=now)
        for day in days:
            if not goes_on():
                return
            with transaction(self._sessions) as session:
                num_hours = roll_up_day(session, day, now=now)
            _log.info("history.summed_up", day=f"{day:%Y-%m-%d}", num_hours=num_hours)
        if (kept := self._retention.branches_days) is not None:
            with transaction(self._sessions) as session:
                before = seal_hours(session, now - timedelta(days=kept))
            self._forget("branches", delete_branches, before, goes_on)
        if (kept := self._retention.events_days) is not None:
            self._forget("events", delete_events, now - timedelta(days=kept), goes_on)

    def _forget(
        self,
        what: str,
        delete: Callable[[Session, datetime], int],
        before: datetime,
        goes_on: Callable[[], bool],
    ) -> None:
        num_deleted = 0
        while goes_on():
            with transaction(self._sessions) as session:
                deleted = delete(session, before)
            num_deleted += deleted
            if not deleted:
                break
            time.sleep(_PAUSE_S)
        if num_deleted:
            _log.info("history.forgotten", what=what, before=str(before), num_rows=num_deleted)
