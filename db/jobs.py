"""Jobs: submitted by a tenant, started by a worker, ended by their problems or a cancel."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import uuid_utils
from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job
from db.parts import NewPart, insert_parts
from db.plans import forecast_columns, plan_columns, promise_columns
from scheduler.core.branch_options import BranchOptions
from scheduler.core.decisions import Admitted
from scheduler.core.event_kinds import EventKind
from scheduler.core.grading import BY_EQUIVALENCE, Grading
from scheduler.core.shrinkage import ANY_FAMILY
from scheduler.core.states import JOB_TRANSITIONS, LIVE, JobState, sources_of


@dataclass(frozen=True, slots=True)
class NewJob:
    """One submission; the units are those of `db.models.Job`.

    Attributes:
        parts: Problems with a deadline of their own.
    """

    id: str
    tenant_id: str
    name: str
    model: str
    deadline_at: datetime
    weight: float
    max_branches: int
    max_tokens: int | None
    min_accuracy: float | None
    temperature: float
    top_p: float
    num_problems: int
    mean_prompt_tokens: float
    created_at: datetime
    family: str = ANY_FAMILY
    grading: Grading = BY_EQUIVALENCE
    solve: bool = True
    branch_options: BranchOptions = field(default_factory=BranchOptions)
    request_sha256: str | None = None
    retry_of: str | None = None
    tokens_per_problem: float = 0.0
    traceparent: str | None = None
    parts: tuple[NewPart, ...] = ()


def new_job_id() -> str:
    """An id for a job; later ones sort behind it."""
    return f"job_{uuid_utils.uuid7().hex}"


def insert_job(
    session: Session,
    job: NewJob,
    admitted: Admitted,
    *,
    rest: Admitted | None = None,
    parts: Sequence[Admitted] = (),
    decision: dict[str, Any] | None = None,
) -> None:
    """Store an admitted job with the forecast of this moment and its first plan.

    Args:
        admitted: The job as a whole.
        rest: What was decided for the problems that are due with the job; None for the same, where
            it has no parts or no such problems.
        parts: What was decided for each of its parts.
        decision: The explanation of the admission as plain JSON, for the history.
    """
    rest = rest or admitted
    session.execute(
        insert(Job).values(
            id=job.id,
            tenant_id=job.tenant_id,
            name=job.name,
            model=job.model,
            family=job.family,
            state=JobState.QUEUED,
            deadline_at=job.deadline_at,
            weight=job.weight,
            max_branches=job.max_branches,
            max_tokens=job.max_tokens,
            min_accuracy=job.min_accuracy,
            temperature=job.temperature,
            top_p=job.top_p,
            branch_options=job.branch_options.to_dict(),
            grading=job.grading.to_dict(),
            solve=job.solve,
            request_sha256=job.request_sha256,
            retry_of=job.retry_of,
            traceparent=job.traceparent,
            num_problems=job.num_problems,
            mean_prompt_tokens=job.mean_prompt_tokens,
            tokens_per_problem=job.tokens_per_problem,
            created_at=job.created_at,
            verdict=admitted.verdict,
            is_promised=admitted.is_promised,
            forecast_basis=None if decision is None else decision["basis"],
            **promise_columns(admitted.forecast, job.created_at),
            **plan_columns(rest.plan),
            **forecast_columns(rest.forecast, job.created_at),
        )
    )
    insert_parts(session, job.id, zip(job.parts, parts, strict=True), job.created_at)
    events.record(
        session,
        job_id=job.id,
        kind=EventKind.JOB_QUEUED,
        data={
            "num_problems": job.num_problems,
            "degraded": admitted.degraded,
            "verdict": admitted.verdict,
            "is_promised": admitted.is_promised,
            "retry_of": job.retry_of,
            "decision": decision,
        },
        now=job.created_at,
    )


def get_job(session: Session, tenant_id: str, job_id: str) -> Job | None:
    """The tenant's job; None when there is none, or it is another tenant's."""
    return session.scalar(select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id))


def find_equal(
    session: Session, tenant_id: str, request_sha256: str, *, since: datetime
) -> str | None:
    """Id of a job that the same request made after an instant, if it is live or completed."""
    return session.scalar(
        select(Job.id)
        .where(
            Job.tenant_id == tenant_id,
            Job.created_at > since,
            Job.request_sha256 == request_sha256,
            Job.state.in_((*LIVE, JobState.COMPLETED)),
        )
        .order_by(Job.created_at)
        .limit(1)
    )


def list_jobs(
    session: Session,
    tenant_id: str,
    *,
    limit: int,
    after: str | None = None,
    state: JobState | None = None,
) -> list[Job]:
    """The tenant's jobs, newest first, beginning behind the job `after`; `state` filters."""
    statement = select(Job).where(Job.tenant_id == tenant_id)
    if state is not None:
        statement = statement.where(Job.state == state)
    if after is not None:
        cursor = select(Job.created_at, Job.id).where(Job.id == after, Job.tenant_id == tenant_id)
        statement = statement.where(tuple_(Job.created_at, Job.id) < cursor.scalar_subquery())
    return list(
        session.scalars(statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit))
    )


def jobs_by_slack(session: Session, tenant_id: str, *, limit: int, now: datetime) -> list[Job]:
    """The tenant's live jobs, least slack first."""
    slack = Job.deadline_at - func.greatest(Job.predicted_finish_at, now)
    return list(
        session.scalars(
            select(Job)
            .where(Job.tenant_id == tenant_id, Job.finished_at.is_(None))
            .order_by(slack, Job.id)
            .limit(limit)
        )
    )


def start_job(session: Session, job_id: str, *, now: datetime) -> bool:
    """Move a queued job to running; True for the first batch that is claimed."""
    started = session.scalar(
        update(Job)
        .where(Job.id == job_id, Job.state.in_(sources_of(JobState.RUNNING, JOB_TRANSITIONS)))
        .values(state=JobState.RUNNING, started_at=now)
        .returning(Job.id)
    )
    return started is not None


def request_cancel(session: Session, tenant_id: str, job_id: str, *, now: datetime) -> bool:
    """Ask for the end of a live job of the tenant; False when it is not live or not theirs."""
    asked = session.scalar(
        update(Job)
        .where(
            Job.id == job_id,
            Job.tenant_id == tenant_id,
            Job.state.in_(sources_of(JobState.CANCELLING, JOB_TRANSITIONS)),
        )
        .values(state=JobState.CANCELLING)
        .returning(Job.id)
    )
    if asked is None:
        return False
    events.record(session, job_id=job_id, kind=EventKind.JOB_CANCELLING, data={}, now=now)
    return True
