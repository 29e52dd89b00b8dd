"""Spans of a batch that is traced: the batch, its problems, and the branches of each.

Theory of operation: what the store took is recorded, once it did, from the rows themselves, so
nothing is timed twice and an engine knows nothing of traces. A branch that was retried by another
worker has a span in each of their batches. The text of prompts and answers stays out of spans.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from db.branches import BranchRow
from db.claims import ClaimedBatch
from db.problems import ProblemAnswer
from db.tracing import job_context, nanoseconds
from scheduler.core.states import ProblemState

_tracer = trace.get_tracer("slackline.worker")


class BatchSpans:
    """Records under the span that is current when it is made; nothing when none is recorded."""

    def __init__(self, batch: ClaimedBatch) -> None:
        self._is_on = trace.get_current_span().is_recording()
        self._parent = trace.set_span_in_context(trace.get_current_span())
        self._began_ns = time.time_ns()
        self._keys = {problem.id: problem.key for problem in batch.problems}
        self._problems: dict[int, Span] = {}

    def record(self, rows: Iterable[BranchRow], answers: Iterable[ProblemAnswer] = ()) -> None:
        """Record branches that were stored, and the end of the problems that were answered."""
        if not self._is_on:
            return
        for row in rows:
            self._record_branch(row)
        for answer in answers:
            self._end_problem(answer)

    def close(self) -> None:
        """End what is open: problems that go back, to be answered in another batch."""
        for span in self._problems.values():
            if span.is_recording():
                span.end()

    def _problem(self, problem_id: int) -> Span:
        span = self._problems.get(problem_id)
        if span is None:
            span = self._problems[problem_id] = _tracer.start_span(
                "problem",
                context=self._parent,
                start_time=self._began_ns,
                attributes={
                    "slackline.problem.id": problem_id,
                    "slackline.problem.key": self._keys[problem_id],
                },
            )
        return span

    def _end_problem(self, answer: ProblemAnswer) -> None:
        span = self._problem(answer.problem_id)
        span.set_attribute("slackline.state", answer.state.value)
        span.set_attribute("slackline.degraded", answer.degraded)
        span.set_attribute("slackline.num_branches_finished", answer.num_branches_finished)
        if answer.vote_share is not None:
            span.set_attribute("slackline.vote_share", answer.vote_share)
        if answer.is_correct is not None:
            span.set_attribute("slackline.is_correct", answer.is_correct)
        if answer.state is ProblemState.FAILED:
            span.set_status(StatusCode.ERROR, answer.error)
        span.end(nanoseconds(answer.finished_at))

    def _record_branch(self, row: BranchRow) -> None:
        span = _tracer.start_span(
            "branch",
            context=trace.set_span_in_context(self._problem(row.problem_id)),
            start_time=nanoseconds(row.queued_at),
            attributes={
                "slackline.branch_index": row.branch_index,
                "slackline.finish_reason": row.finish_reason,
                "slackline.num_speculative_tokens": row.num_speculative_tokens,
                "slackline.prompt_tokens": row.prompt_tokens,
                "slackline.completion_tokens": row.completion_tokens,
                "slackline.num_steps": row.num_steps,
                "slackline.draft_tokens": sum(row.drafted_by_position),
                "slackline.accepted_draft_tokens": sum(row.accepted_by_position),
                "slackline.queue_time_s": row.queue_time_s,
            },
        )
        if row.started_at is not None:
            span.add_event("prefill", timestamp=nanoseconds(row.started_at))
        if row.ttft_s is not None:
            first_token_at = row.queued_at + timedelta(seconds=row.ttft_s)
            span.add_event("decode", timestamp=nanoseconds(first_token_at))
        if row.error is not None:
            span.set_status(StatusCode.ERROR, row.error)
        span.end(nanoseconds(row.finished_at))


@contextmanager
def batch_spans(batch: ClaimedBatch, worker: str, began_ns: int) -> Iterator[BatchSpans]:
    """Record a batch that was just claimed; its span is current until the end of the block.

    Args:
        began_ns: When the claim began.
    """
    if batch.traceparent is None:
        yield BatchSpans(batch)
        return
    with _tracer.start_as_current_span(
        "batch",
        context=job_context(batch.job_id, batch.traceparent),
        kind=SpanKind.CONSUMER,
        start_time=began_ns,
        attributes={
            "slackline.job.id": batch.job_id,
            "slackline.batch.id": batch.id,
            "slackline.worker": worker,
            "slackline.num_problems": len(batch.problems),
            "slackline.num_branches": batch.plan.num_branches,
            "slackline.num_speculative_tokens": batch.plan.num_speculative_tokens,
            "slackline.max_tokens": batch.plan.max_tokens,
        },
    ):
        _tracer.start_span("claim", start_time=began_ns).end()
        spans = BatchSpans(batch)
        try:
            yield spans
        finally:
            spans.close()
