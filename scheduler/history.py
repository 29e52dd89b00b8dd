"""Keeps the history: makes room for it, sums up hours that are over, and forgets what may go.

Theory of operation: a pass runs in a thread of its own while the scheduler leads. It makes the
partitions of coming weeks and sums up day after day, the latest first, each in one transaction;
then it drops the weeks that are older than the retention says. Passes that are lost, doubled or cut
off do no harm, and what could not be had at once is left to the next.
"""

import threading
import time
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import structlog

from db.partitions import TABLES, drop_week, make_week, refresh_statistics, weeks_to_make
from db.reports.rollups import due_days, roll_up_day
from db.retention import seal_hours, weeks_to_forget
from db.session import SessionFactory, transaction
from scheduler.background import repeating
from scheduler.config import RetentionConfig

_log = structlog.get_logger(__name__)

BUDGET_S = 20.0
"""Seconds after which a pass begins nothing more; the rest waits for the next."""

PATIENCE_S = 2.0
"""How long a stop waits; what is in progress is undone by Postgres."""


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

        self._make_weeks(now)
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
            self._forget("branches", before)
        if (kept := self._retention.events_days) is not None:
            self._forget("job_events", now - timedelta(days=kept))

    def _make_weeks(self, now: datetime) -> None:
        for table in TABLES:
            with transaction(self._sessions) as session:
                weeks = weeks_to_make(session, table, now=now)
            for week in weeks:
                with transaction(self._sessions) as session:
                    is_made = make_week(session, table, week)
                if not is_made:
                    _log.info("history.week_put_off", table=table, week=str(week))
                    break
                _log.info("history.week_made", table=table, week=str(week))
        with transaction(self._sessions) as session:
            refresh_statistics(session, now=now)

    def _forget(self, table: str, before: datetime) -> None:
        with transaction(self._sessions) as session:
            weeks = weeks_to_forget(session, table, before)
        for week in weeks:
            with transaction(self._sessions) as session:
                is_gone = drop_week(session, table, week)
            if not is_gone:
                _log.info("history.week_put_off", table=table, week=str(week))
                break
            _log.info("history.week_forgotten", table=table, week=str(week))
