"""How jobs end: by their problems, by a cancel, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db import events
from db.batches import cancel_job_batches
from db.expiry import fail_job_problems
from db.models import Job, JobEvent
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
    met_deadline: bool | None
    traceparent: str | None

    @property
    def kept_promise(self) -> bool | None:
        """Whether it met its deadline; None when it was cancelled, or nothing was promised."""
        return self.met_deadline if self.is_promised else None


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
# the scheduler noticed. It met its deadline if it completed, and each problem by its own: that of
# its part, or of the job. Cancelling jobs end in `finish_cancelled`.
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
        is_in_time,
        last_at
    FROM jobs
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE state = 'answered') AS num_answered,
            count(*) FILTER (WHERE degraded) AS num_degraded,
            count(*) FILTER (WHERE state = 'expired') AS num_expired,
            count(*) FILTER (WHERE state = 'failed') AS num_failed,
            bool_and(problems.finished_at <= least(job_parts.deadline_at, jobs.deadline_at))
                AS is_in_time,
            max(finished_at) AS last_at
        FROM problems
        LEFT JOIN job_parts
            ON job_parts.job_id = problems.job_id AND job_parts.part = problems.part
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
    met_deadline = ended.state = 'completed' AND is_in_time,
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

_FINISH_PARTS = text("""
UPDATE job_parts
SET met_deadline = (
    SELECT bool_and(
        problems.state <> 'expired'
        AND problems.finished_at <= least(job_parts.deadline_at, jobs.deadline_at)
    ) AND bool_or(problems.state <> 'failed')
    FROM problems
    WHERE problems.job_id = job_parts.job_id AND problems.part = job_parts.part
)
FROM jobs
WHERE jobs.id = job_parts.job_id AND jobs.id = ANY(:ended)
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
    session.execute(_FINISH_PARTS, {"ended": [row.id for row in ended]})
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
