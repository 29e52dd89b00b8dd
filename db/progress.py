"""Progress: how many problems of a job are in which state, and how many are right so far."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Job, Problem
from scheduler.core.states import ProblemState


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Problems of a job by state. `num_graded` and `num_correct` count graded answers so far."""

    pending: int = 0
    dispatched: int = 0
    running: int = 0
    answered: int = 0
    expired: int = 0
    failed: int = 0
    cancelled: int = 0
    degraded: int = 0
    num_graded: int = 0
    num_correct: int = 0

    @property
    def accuracy(self) -> float | None:
        """Fraction of graded answers that are right; None before the first."""
        return self.num_correct / self.num_graded if self.num_graded else None


def job_progress(session: Session, job_id: str) -> JobProgress:
    """Counts of one job's problems."""
    return jobs_progress(session, [job_id]).get(job_id, JobProgress())


def jobs_progress(session: Session, job_ids: Sequence[str]) -> dict[str, JobProgress]:
    """Counts of several jobs' problems, by job id."""
    rows = session.execute(
        select(
            Problem.job_id,
            *(
                func.count().filter(Problem.state == state).label(state.value)
                for state in ProblemState
            ),
            func.count().filter(Problem.degraded.is_(True)).label("degraded"),
            func.count(Problem.is_correct).label("num_graded"),
            func.count().filter(Problem.is_correct.is_(True)).label("num_correct"),
        )
        .where(Problem.job_id.in_(job_ids))
        .group_by(Problem.job_id)
    )
    return {row.job_id: JobProgress(*row[1:]) for row in rows}


def live_jobs(
    session: Session,
    *,
    job_ids: Collection[str] | None = None,
    tenant_id: str | None = None,
    limit: int | None = None,
) -> list[Job]:
    """Unfinished jobs, nearest deadline first; of these ids, of one tenant."""
    statement = select(Job).where(Job.finished_at.is_(None))
    if job_ids is not None:
        statement = statement.where(Job.id.in_(job_ids))
    if tenant_id is not None:
        statement = statement.where(Job.tenant_id == tenant_id)
    return list(session.scalars(statement.order_by(Job.deadline_at, Job.id).limit(limit)))
