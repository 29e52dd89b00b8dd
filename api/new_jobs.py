"""A job as its submission makes it, before it is stored."""

from dataclasses import replace
from datetime import datetime
from operator import attrgetter

from api.schemas.submission import SetOptions
from db import jobs
from scheduler.core.snapshot import JobView, Snapshot, most_branches
from scheduler.core.states import JobState


def new_job(
    options: SetOptions,
    *,
    tenant_id: str,
    due_at: datetime,
    num_problems: int,
    mean_prompt_tokens: float,
    now: datetime,
) -> jobs.NewJob:
    """The job that a submission with these options would be."""
    return jobs.NewJob(
        id=jobs.new_job_id(),
        tenant_id=tenant_id,
        name=options.name,
        model=options.model,
        family=options.family,
        deadline_at=due_at,
        weight=options.weight,
        max_branches=options.max_branches,
        max_tokens=options.max_tokens,
        min_accuracy=options.min_accuracy,
        temperature=options.temperature,
        top_p=options.top_p,
        branch_options=options.branch_options(),
        num_problems=num_problems,
        mean_prompt_tokens=mean_prompt_tokens,
        created_at=now,
    )


def views_of(job: jobs.NewJob, snapshot: Snapshot) -> list[JobView]:
    """The parts of a job as the planner sees them, not stored yet, nearest deadline first."""
    whole = view_of(job, snapshot)
    views = [
        replace(
            whole, part=part.number, deadline_at=part.deadline_at, num_pending=part.num_problems
        )
        for part in job.parts
    ]
    num_left = job.num_problems - sum(part.num_problems for part in job.parts)
    if num_left:
        views.append(replace(whole, num_pending=num_left))
    return sorted(views, key=attrgetter("deadline_at"))


def view_of(job: jobs.NewJob, snapshot: Snapshot) -> JobView:
    """A job without parts as the planner sees it, not stored yet."""
    return JobView(
        id=job.id,
        tenant_id=job.tenant_id,
        model=job.model,
        state=JobState.QUEUED,
        created_at=job.created_at,
        deadline_at=job.deadline_at,
        weight=job.weight,
        max_branches=most_branches(job.max_branches, job.temperature),
        max_tokens=job.max_tokens,
        min_accuracy=job.min_accuracy,
        mean_prompt_tokens=job.mean_prompt_tokens,
        num_pending=job.num_problems,
        num_in_flight=0,
        answers=snapshot.answers_of(job.model, job.family),
        tenant_share=snapshot.share_of(job.tenant_id),
    )
