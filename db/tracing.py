"""The trace of a job on its way through Postgres, which is all that processes share.

Theory of operation: a traced request leaves its `traceparent` (W3C Trace Context) with the job that
it makes, and who works on the job goes on from there. The span of the job itself, a child of that
request, is recorded when the job has ended, by the scheduler. Its id is made of the job's own, so
that the spans of plans and batches, which are recorded long before, have it as their parent. A job
without a `traceparent` was not traced or not sampled: then nobody records anything of it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Job

_W3C = TraceContextTextMapPropagator()
_FIELD = "traceparent"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

wanted_span_id: ContextVar[int | None] = ContextVar("wanted_span_id", default=None)
"""Id of the next span, where it is not to be a random one."""


def current_traceparent() -> str | None:
    """Of the span that is current here; None when there is none, or it is not sampled."""
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_FIELD)


def traceparents(session: Session, job_ids: Iterable[str]) -> dict[str, str]:
    """Of those of the jobs that are traced.

    Also where this process exports nothing: its log lines belong to the trace all the same.
    """
    is_traced = (Job.id.in_(list(job_ids)), Job.traceparent.is_not(None))
    found = session.execute(select(Job.id, Job.traceparent).where(*is_traced))
    return {row.id: row.traceparent for row in found}


def request_context(traceparent: str) -> Context:
    """Where the span of a job belongs: below the request that made it."""
    return _W3C.extract({_FIELD: traceparent}, Context())


def job_context(job_id: str, traceparent: str) -> Context:
    """Where the spans of a job's plans and batches belong: below the span of the job."""
    request = trace.get_current_span(request_context(traceparent)).get_span_context()
    job = trace.SpanContext(
        request.trace_id, job_span_id(job_id), is_remote=True, trace_flags=request.trace_flags
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(job), Context())


def job_span_id(job_id: str) -> int:
    """Id of the job's own span: the random end of its UUIDv7."""
    return int(job_id[-16:], 16)


@contextmanager
def going_on(context: Context | None) -> Iterator[None]:
    """Make this context current until the end of the block; None changes nothing."""
    if context is None:
        yield
        return
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


def nanoseconds(at: datetime) -> int:
    """An instant as spans count it."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
