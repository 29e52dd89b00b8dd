"""The trace of a job goes on through a scheduler that exports nothing."""

from opentelemetry import trace

from db.endings import EndedJob
from db.session import SessionFactory, transaction
from db.tracing import traceparents
from scheduler.core.decisions import NewBatch
from scheduler.spans import job_span, plan_span
from tests.factories import MODEL, NOW, after, plan, stored_job

TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER}-01"


def current_trace() -> str:
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


def test_plans_and_ends_belong_to_the_trace_of_their_job(sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, traceparent=TRACEPARENT)
        untraced = stored_job(session)
        traced = traceparents(session, [job_id, untraced])
    assert traced == {job_id: TRACEPARENT}
    with plan_span(job_id, traced[job_id], [NewBatch(job_id, "w", 1, plan())], NOW):
        assert current_trace() == TRACE_ID
    ended = EndedJob(
        job_id, MODEL, "completed", True, 1, NOW, after(60), after(5), True, TRACEPARENT
    )
    with job_span(ended):
        assert current_trace() == TRACE_ID
        # Nobody will ever see a span of the job, so what is told is the request's.
        span_id = trace.get_current_span().get_span_context().span_id
        assert trace.format_span_id(span_id) == CALLER
