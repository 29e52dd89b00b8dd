"""Spans of what the scheduler does for jobs that are traced: their plans, and their whole life."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from opentelemetry import trace
from opentelemetry.trace import StatusCode

from db.endings import EndedJob
from db.tracing import (
    job_context,
    job_span_id,
    nanoseconds,
    request_context,
    wanted_span_id,
)
from scheduler.core.decisions import NewBatch
from scheduler.core.states import JobState

_tracer = trace.get_tracer("slackline.scheduler")


@contextmanager
def plan_span(
    job_id: str, traceparent: str | None, batches: Sequence[NewBatch], began_at: datetime
) -> Iterator[None]:
    """Record that a tick gave batches of a job to workers; current until the end of the block.

    Args:
        began_at: When the tick began to read.
    """
    if traceparent is None:
        yield
        return
    plan = batches[0].plan
    with _tracer.start_as_current_span(
        "plan",
        context=job_context(job_id, traceparent),
        start_time=nanoseconds(began_at),
        attributes={
            "slackline.job.id": job_id,
            "slackline.num_branches": plan.num_branches,
            "slackline.num_speculative_tokens": plan.num_speculative_tokens,
            "slackline.max_tokens": plan.max_tokens,
            "slackline.num_problems": sum(batch.num_problems for batch in batches),
            "slackline.num_batches": len(batches),
        },
    ):
        yield


@contextmanager
def job_span(job: EndedJob) -> Iterator[None]:
    """Record the life of a job that ended; current until the end of the block."""
    if job.traceparent is None:
        yield
        return
    token = wanted_span_id.set(job_span_id(job.id))
    try:
        span = _tracer.start_span(
            "job",
            context=request_context(job.traceparent),
            start_time=nanoseconds(job.created_at),
            attributes={
                "slackline.job.id": job.id,
                "slackline.model": job.model,
                "slackline.state": job.state,
                "slackline.num_problems": job.num_problems,
                "slackline.deadline_s": (job.deadline_at - job.created_at).total_seconds(),
                "slackline.lateness_s": (job.finished_at - job.deadline_at).total_seconds(),
            },
        )
    finally:
        wanted_span_id.reset(token)
    if job.state in (JobState.EXPIRED, JobState.FAILED):
        span.set_status(StatusCode.ERROR, f"the job {job.state}")
    with trace.use_span(span):
        yield
    # A job that nobody noticed for a moment ended when its last problem did.
    span.end(min(nanoseconds(job.finished_at), time.time_ns()))
