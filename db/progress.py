"""Progress: how many problems of a job are in which state, and how many are right so far.

Theory of operation: a job may have a million problems, and clients ask twice a second. The problems
of a live job are counted on an index that has all it takes; groups make the count cheap. When
a job ends its counts are final and are kept with it, so a list of ended jobs counts nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from sqlalchemy import func, select, update
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
    kept = session.execute(
        select(Job.id, Job.final_progress).where(
            Job.id.in_(job_ids), Job.final_progress.is_not(None)
        )
    )
    found = {job_id: JobProgress(**counts) for job_id, counts in kept}
    return found | _counted(session, [job_id for job_id in job_ids if job_id not in found])


def keep_progress(session: Session, job_ids: Sequence[str]) -> None:
    """Keep the counts of jobs that have just ended; call it in their transaction."""
    ended = [
        {"id": job_id, "final_progress": asdict(counts)}
        for job_id, counts in _counted(session, job_ids).items()
    ]
    if ended:
        session.execute(update(Job), ended)


def _counted(session: Session, job_ids: Sequence[str]) -> dict[str, JobProgress]:
    if not job_ids:
        return {}
    kinds = (Problem.job_id, Problem.state, Problem.degraded, Problem.is_correct)
    groups = defaultdict[str, list[_Group]](list)
    for job_id, state, degraded, is_correct, num in session.execute(
        select(*kinds, func.count()).where(Problem.job_id.in_(job_ids)).group_by(*kinds)
    ):
        groups[job_id].append(_Group(state, degraded, is_correct, num))
    return {job_id: _added(own) for job_id, own in groups.items()}


class _Group(NamedTuple):
    """Problems that are alike, and how many they are."""

    state: str
    degraded: bool
    is_correct: bool | None
    num: int


def _added(groups: Sequence[_Group]) -> JobProgress:
    states = Counter[str]()
    for group in groups:
        states[group.state] += group.num
    return JobProgress(
        pending=states[ProblemState.PENDING],
        dispatched=states[ProblemState.DISPATCHED],
        running=states[ProblemState.RUNNING],
        answered=states[ProblemState.ANSWERED],
        expired=states[ProblemState.EXPIRED],
        failed=states[ProblemState.FAILED],
        cancelled=states[ProblemState.CANCELLED],
        degraded=sum(group.num for group in groups if group.degraded),
        num_graded=sum(group.num for group in groups if group.is_correct is not None),
        num_correct=sum(group.num for group in groups if group.is_correct),
    )


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
