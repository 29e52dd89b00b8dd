"""How far live jobs are, as an event that is streamed and not stored."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime

from sqlalchemy.orm import Session

from api.followers import Told
from api.schemas.events import EventOut
from api.schemas.jobs import ProgressOut
from api.views import slack_s
from db.models import Job
from db.progress import JobProgress, jobs_progress, live_jobs
from scheduler.core.event_kinds import EventKind

MAX_LIVE = 100
"""Live jobs of a tenant whose progress is told, nearest deadline first."""


def progress_told(
    session: Session, *, job_ids: Collection[str], tenant_ids: Collection[str], now: datetime
) -> list[Told]:
    """Progress of those of these jobs that are live, and of the tenants' live jobs."""
    jobs = {job.id: job for job in live_jobs(session, job_ids=job_ids)}
    for tenant_id in tenant_ids:
        jobs |= {job.id: job for job in live_jobs(session, tenant_id=tenant_id, limit=MAX_LIVE)}
    progress = jobs_progress(session, list(jobs))
    return [_told(job, progress.get(job.id, JobProgress()), now) for job in jobs.values()]


def _told(job: Job, progress: JobProgress, now: datetime) -> Told:
    state = (
        job.state,
        job.deadline_at,
        job.predicted_finish_p95_at,
        job.risk_reason,
        progress,
    )
    event = EventOut(
        id=None,
        job_id=job.id,
        at=now,
        kind=EventKind.JOB_PROGRESS,
        data={
            "state": job.state,
            "num_problems": job.num_problems,
            "progress": ProgressOut.model_validate(asdict(progress)).model_dump(),
            "degraded": progress.degraded,
            "accuracy": progress.accuracy,
            "deadline_at": job.deadline_at,
            "time_left_s": (job.deadline_at - now).total_seconds(),
            "slack_s": slack_s(job, now),
            "at_risk": job.risk_reason,
        },
    )
    return Told(None, job.tenant_id, job.id, event.kind, event.model_dump_json(), state)
