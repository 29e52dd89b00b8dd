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

_MARK = text("""
WITH late AS (
    UPDATE history_hours SET state = 'stale' WHERE hour = ANY(:hours) AND state = 'rolled'
)
INSERT INTO history_hours (hour, state)
SELECT hour, 'stale' FROM unnest(CAST(:hours AS timestamptz[])) AS hour
ON CONFLICT DO NOTHING
""")


def mark_ended(session: Session, instants: Iterable[datetime]) -> None:
    """Let reports know of rows that ended at these instants; call it in their transaction."""
    hours = sorted({Every.HOUR.begin(at) for at in instants})
    if not hours:
        return
    session.execute(_MARK, {"hours": hours})
    # Two who share a mark do not wait for each other.
    states = session.execute(
        select(HistoryHour.hour, HistoryHour.state)
        .where(HistoryHour.hour.in_(hours))
        .order_by(HistoryHour.hour)
        .with_for_update(read=True)
    )
    if any(state == "rolled" for _, state in states):
        # It was being summed up when we looked first.
        session.execute(_MARK, {"hours": hours})


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
