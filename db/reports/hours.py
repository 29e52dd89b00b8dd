"""Which hours of history are summed up: marked by all who write what ends, read by reports.

Theory of operation: whoever stores a row that ended marks its hour stale in the same transaction,
and holds the mark until the commit. So an hour that is not stale has no row that its rollups lack,
at any moment and for any reader: a row that comes late makes its hour stale again, and reports read
the rows of the hour until it is summed up anew. Summing up waits for writers of the hour, who hold
its mark, and makes later ones wait until it is done.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from db.models import HistoryHour
from db.reports.periods import HOUR, Every

# In one statement: most marks are there already, and each row that ends pays for it.
_MARK = text("""
WITH made AS (
    INSERT INTO history_hours (hour, state)
    SELECT hour, 'stale' FROM unnest(CAST(:hours AS timestamptz[])) AS hour
    ON CONFLICT DO NOTHING
    RETURNING hour
), held AS (
    SELECT hour FROM history_hours
    WHERE hour = ANY(:hours) AND state <> 'rolled'
    ORDER BY hour
    FOR SHARE
)
SELECT hour FROM made UNION ALL SELECT hour FROM held
""")

# These are not shared first: two who share a mark and want to change it wait for each other.
_MARK_AGAIN = text("""
UPDATE history_hours SET state = 'stale'
WHERE hour IN (
    SELECT hour FROM history_hours
    WHERE hour = ANY(:hours) AND state = 'rolled'
    ORDER BY hour
    FOR NO KEY UPDATE
)
RETURNING hour
""")


def mark_ended(session: Session, instants: Iterable[datetime]) -> None:
    """Let reports know of rows that ended at these instants; call it in their transaction."""
    hours = {Every.HOUR.begin(at) for at in instants}
    while hours:
        hours -= set(session.scalars(_MARK, {"hours": sorted(hours)}))
        if hours:
            hours -= set(session.scalars(_MARK_AGAIN, {"hours": sorted(hours)}))
        # One that another writer made in the same moment was not seen: look again, and hold it.


def stale_between(session: Session, since: datetime, until: datetime) -> set[datetime]:
    """Stale hours that overlap [since, until)."""
    return set(
        session.scalars(
            select(HistoryHour.hour).where(
                HistoryHour.state == "stale",
                HistoryHour.hour > since - HOUR,
                HistoryHour.hour < until,
            )
        )
    )


def extent(session: Session) -> tuple[datetime, datetime] | None:
    """From the first hour of history to the end of the last; None without any."""
    first, last = session.execute(
        select(func.min(HistoryHour.hour), func.max(HistoryHour.hour))
    ).one()
    return None if first is None else (first, last + HOUR)
