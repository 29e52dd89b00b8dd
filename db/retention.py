"""Forgets what the operator does not want to keep: branches and events of jobs that ended long ago.

Theory of operation: rows of all jobs that were made in one week go at once, with their partition,
as soon as the last of these jobs ended long enough ago. Branches go only from hours that are
summed up; these are marked pruned before, and their rollups are never made again.
"""

from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db.models import HistoryHour
from db.partitions import Week, weeks_of
from db.reports.periods import Every

_IS_WANTED = """
SELECT EXISTS (
    SELECT FROM jobs
    WHERE id >= :first AND id < :end AND (finished_at >= :before OR finished_at IS NULL)
)
"""

# A branch may end after its job, when its worker learns late that nobody waits for it. The text of
# a branch goes into the output of its OpenAI batch, once that is written.
_BRANCHES_ARE_WANTED = f"""
{_IS_WANTED} OR EXISTS (
    SELECT FROM branches WHERE job_id >= :first AND job_id < :end AND finished_at >= :before
) OR EXISTS (
    SELECT FROM openai_batch_jobs JOIN openai_batches ON openai_batches.id = batch_id
    WHERE job_id >= :first AND job_id < :end
        AND state IN ('validating', 'in_progress', 'finalizing', 'cancelling')
)
"""


def seal_hours(session: Session, before: datetime) -> datetime:
    """Mark hours as pruned before their branches are; returns up to where these may be dropped.

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


def weeks_to_forget(session: Session, table: str, before: datetime) -> list[Week]:
    """Weeks of branches or events all of whose jobs ended before an instant, oldest first.

    For branches it must be a sealed hour.
    """
    is_wanted = text(_BRANCHES_ARE_WANTED if table == "branches" else _IS_WANTED)
    return [
        week
        for week in weeks_of(session, table)
        if week.end_at <= before and not session.scalar(is_wanted, {**week.jobs, "before": before})
    ]
