"""How jobs end: by their problems, by a cancel, or by the deadline."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db import events
from db.batches import cancel_job_batches
from db.expiry import expire_job_problems, fail_job_problems
from db.leases import lock_batches
from db.models import Batch, Job, JobEvent, JobPart
from db.plans import part_named, planned_row
from db.problems import cancel_job_problems
from db.progress import keep_progress
from db.reports.hours import mark_ended
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import JOB_TRANSITIONS, LIVE, JobState, sources_of


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that is over; the units are those of `db.models.Job`."""

    id: str
    model: str
    state: str
    is_promised: bool
    num_problems: int
    created_at: datetime
    deadline_at: datetime
    finished_at: datetime
    traceparent: str | None

    @property
    def kept_promise(self) -> bool | None:
        """Whether it completed in time; None when it was cancelled, or nothing was promised."""
        if not self.is_promised or self.state == JobState.CANCELLED:
            return None
        return self.state == JobState.COMPLETED and self.finished_at <= self.deadline_at


def ended_jobs(session: Session, job_ids: Sequence[str]) -> list[EndedJob]:
    """Those of the jobs that are over, by id."""
    if not job_ids:
        return []
    columns = [getattr(Job, name) for name in EndedJob.__slots__]
    is_over = (Job.id.in_(job_ids), Job.finished_at.is_not(None))
    return [
        EndedJob(*row) for row in session.execute(select(*columns).where(*is_over).order_by(Job.id))
    ]


# A job ends when none of its problems is open. It ended when its last problem did, however late
# the scheduler noticed. Cancelling jobs end in `finish_cancelled`.
_FINISH_JOBS = text("""
WITH ended AS (
    SELECT
        jobs.id,
        num_answered,
        num_degraded,
        num_expired,
        num_failed,
        CASE
            WHEN num_expired > 0 THEN 'expired'
            WHEN num_failed = jobs.num_problems THEN 'failed'
            ELSE 'completed'
        END AS state,
        last_at
    FROM jobs
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE state = 'answered') AS num_answered,
            count(*) FILTER (WHERE degraded) AS num_degraded,
            count(*) FILTER (WHERE state = 'expired') AS num_expired,
            count(*) FILTER (WHERE state = 'failed') AS num_failed,
            max(finished_at) AS last_at
        FROM problems
        WHERE problems.job_id = jobs.id
    ) AS outcome
    WHERE jobs.finished_at IS NULL
        AND jobs.state = ANY(:live)
        AND NOT EXISTS (
            SELECT FROM problems
            WHERE problems.job_id = jobs.id AND problems.finished_at IS NULL
        )
        AND last_at IS NOT NULL
)
UPDATE jobs
SET state = ended.state,
    finished_at = last_at,
    error = CASE WHEN ended.state = 'failed' THEN 'every problem failed' END
FROM ended
WHERE jobs.id = ended.id
    AND (
        (ended.state = 'completed' AND jobs.state = ANY(:completed_sources))
        OR (ended.state = 'expired' AND jobs.state = ANY(:expired_sources))
        OR (ended.state = 'failed' AND jobs.state = ANY(:failed_sources))
    )
RETURNING jobs.id, jobs.state, jobs.finished_at, num_answered, num_degraded, num_expired, num_failed
""")


def finish_jobs(session: Session, *, now: datetime) -> list[str]:
    """End live jobs without an open problem: completed, expired or failed; returns their ids."""
    ended = session.execute(
        _FINISH_JOBS,
        {
            "live": list(LIVE),
            "completed_sources": list(sources_of(JobState.COMPLETED, JOB_TRANSITIONS)),
            "expired_sources": list(sources_of(JobState.EXPIRED, JOB_TRANSITIONS)),
            "failed_sources": list(sources_of(JobState.FAILED, JOB_TRANSITIONS)),
        },
    ).all()
    events.record_all(
        session,
        (
            events.Event(
                row.id,
                EventKind.of_job(JobState(row.state)),
                {
                    "num_answered": row.num_answered,
                    "num_degraded": row.num_degraded,
                    "num_expired": row.num_expired,
                    "num_failed": row.num_failed,
                },
            )
            for row in ended
        ),
        now=now,
    )
    mark_ended(session, {row.finished_at for row in ended})
    keep_progress(session, [row.id for row in ended])
    return sorted(row.id for row in ended)


def cancelling_jobs(session: Session) -> list[str]:
    """Ids of jobs that wait for the scheduler to end them."""
    return list(
        session.scalars(
            select(Job.id).where(Job.state == JobState.CANCELLING, Job.finished_at.is_(None))
        )
    )


def finish_cancelled(session: Session, job_id: str, *, now: datetime) -> bool:
    """Cancel the job's live batches and open problems, then the job; answers are kept."""
    state = session.scalar(select(Job.state).where(Job.id == job_id))
    if state != JobState.CANCELLING:
        return False
    cancel_job_batches(session, job_id, now=now)
    num_cancelled = cancel_job_problems(session, job_id, now=now)
    cancelled = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(sources_of(JobState.CANCELLED, JOB_TRANSITIONS)))
        .values(state=JobState.CANCELLED, finished_at=now)
        .returning(Job.id)
    )
    if cancelled is None:
        return False
    events.record(
        session,
        job_id=job_id,
        kind=EventKind.JOB_CANCELLED,
        data={"num_cancelled": num_cancelled},
        now=now,
    )
    mark_ended(session, [now])
    keep_progress(session, [job_id])
    return True


def note_plan_failure(
    session: Session, job_id: str, *, error: str, max_failures: int, now: datetime
) -> bool:
    """Record that a live job could not be planned; at the last of so many failures it is given up.

    Then its batches are closed and its problems answered from what is stored, or failed.

    Returns:
        Whether it was given up.
    """
    live = session.scalar(
        select(Job.id).where(Job.id == job_id, Job.state.in_(LIVE)).with_for_update(key_share=True)
    )
    if live is None:
        return False
    is_failure = (JobEvent.job_id == job_id, JobEvent.kind == EventKind.PLAN_FAILED)
    before = session.scalar(select(func.count()).select_from(JobEvent).where(*is_failure)) or 0
    data = {"error": error, "num_failures": before + 1}
    events.record(session, job_id=job_id, kind=EventKind.PLAN_FAILED, data=data, now=now)
    if before + 1 < max_failures:
        return False
    cancel_job_batches(session, job_id, now=now)
    reason = f"the scheduler failed {before + 1} times to plan the job: {error}"
    fail_job_problems(session, job_id, error=reason, now=now)
    return True


def expire_jobs(session: Session, job_ids: Sequence[str], *, now: datetime) -> list[str]:
    """Close batches and problems of live jobs whose deadline passed; returns those jobs' ids.

    The jobs themselves end with `finish_jobs`, like all others. A job whose deadline a client put
    off meanwhile is left alone. Its batches are locked before it, as by those who claim them.
    """
    is_due = (Job.state.in_(LIVE), Job.deadline_at <= now)
    struck = []
    for job_id in session.scalars(
        select(Job.id).where(Job.id.in_(job_ids), *is_due).order_by(Job.id)
    ).all():
        lock_batches(session, Batch.job_id == job_id, Batch.finished_at.is_(None))
        held = select(Job.id).where(Job.id == job_id, *is_due).with_for_update(key_share=True)
        if session.scalar(held) is None:
            continue
        struck.append(job_id)
        _strike(session, job_id, None, now)
    return struck


def expire_part(session: Session, job_id: str, part: int, *, now: datetime) -> bool:
    """Close batches and problems of a live job's part at its own deadline; False before that."""
    of_part = (Batch.job_id == job_id, Batch.part == part)
    lock_batches(session, *of_part, Batch.finished_at.is_(None))
    _, is_it = planned_row(job_id, part)
    is_due = (Job.state.in_(LIVE), JobPart.deadline_at <= now)
    held = select(Job.id).join(JobPart, JobPart.job_id == Job.id).where(is_it, *is_due)
    if session.scalar(held.with_for_update(key_share=True, of=Job)) is None:
        return False
    _strike(session, job_id, part, now)
    return True


def _strike(session: Session, job_id: str, part: int | None, now: datetime) -> None:
    """Close batches and problems at their deadline; the batches are locked, and the job held."""
    cancel_job_batches(session, job_id, now=now, part=part)
    outcomes = expire_job_problems(session, job_id, now=now, part=part)
    if outcomes:
        closed = {state.value: count for state, count in outcomes.items()}
        events.record(
            session,
            job_id=job_id,
            kind=EventKind.DEADLINE_STRUCK,
            data=closed | part_named(session, job_id, part or 0),
            now=now,
        )
