"""Forgets what the operator does not want to keep: branches and events of jobs that ended long ago.

Theory of operation: rows go in chunks, each in a short transaction of its own, so nobody waits for
them and a crash in between does no harm. Branches are deleted only from hours that are summed up;
these are marked pruned, and their rollups are never made again.
"""

from datetime import datetime

from sqlalchemy import TextClause, func, select, text, update
from sqlalchemy.orm import Session

from db.models import HistoryHour
from db.reports.periods import Every

CHUNK = 5_000
"""Rows that one transaction deletes."""

# The text of a branch goes into the output of its OpenAI batch, once that is written.
_BRANCHES = text("""
DELETE FROM branches
WHERE id IN (
    SELECT branches.id
    FROM branches JOIN jobs ON jobs.id = branches.job_id
    WHERE branches.finished_at < :before AND jobs.finished_at < :before
        AND NOT EXISTS (
            SELECT FROM openai_batch_jobs JOIN openai_batches ON openai_batches.id = batch_id
            WHERE job_id = jobs.id
                AND state IN ('validating', 'in_progress', 'finalizing', 'cancelling')
        )
    ORDER BY branches.finished_at
    LIMIT :chunk
)
""")

_EVENTS = text("""
DELETE FROM job_events
WHERE id IN (
    SELECT job_events.id
    FROM jobs JOIN job_events ON job_id = jobs.id
    WHERE at < :before AND jobs.finished_at < :before
    LIMIT :chunk
)
""")


def seal_hours(session: Session, before: datetime) -> datetime:
    """Mark hours as pruned before their branches are; returns up to where these may be deleted.

    That is the hour in which `before` lies, or the first that is still to be summed up.
    """
    stale = session.scalar(select(func.min(HistoryHour.hour)).where(HistoryHour.state == "stale"))
    before = Every.HOUR.begin(before if stale is None else min(stale, before))
    session.execute(
        update(HistoryHour)
        .where(HistoryHour.hour < before, HistoryHour.state == "rolled")
        .values(state="pruned")
    )
    return before


def delete_branches(session: Session, before: datetime) -> int:
    """Delete a chunk of branches of jobs that ended before a sealed hour; returns how many."""
    return _delete(session, _BRANCHES, before)


def delete_events(session: Session, before: datetime) -> int:
    """Delete a chunk of events of jobs that ended before an instant; returns how many."""
    return _delete(session, _EVENTS, before)


def _delete(session: Session, statement: TextClause, before: datetime) -> int:
    deleted = session.connection().execute(statement, {"before": before, "chunk": CHUNK})
    return deleted.rowcount
