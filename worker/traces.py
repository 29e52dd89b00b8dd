"""Turns a finished branch of an engine into the row that keeps its latency trace."""

from datetime import datetime

from db.branches import BranchRow
from worker.engines.base import BranchFinished, BranchRequest, FinishReason
from worker.voting import AnswerClass


def branch_row(
    problem_id: int,
    request: BranchRequest,
    finished: BranchFinished,
    *,
    reason: FinishReason | None = None,
    answer: str | None = None,
    vote: AnswerClass | None = None,
) -> BranchRow:
    """Make the row of a branch.

    Args:
        reason: Overrides the engine's reason, for a branch that ended after its problem closed.
        answer: The answer as the branch wrote it, with the class that it voted for.
    """
    metrics = finished.metrics
    return BranchRow(
        problem_id=problem_id,
        branch_index=request.branch_index,
        num_speculative_tokens=request.num_speculative_tokens,
        finish_reason=reason or finished.finish_reason,
        text=finished.text,
        answer=answer if vote else None,
        vote_class=vote.number if vote else None,
        is_correct=vote.is_correct if vote else None,
        queued_at=metrics.queued_at,
        started_at=metrics.started_at,
        finished_at=metrics.finished_at,
        queue_time_s=_seconds(metrics.queued_at, metrics.started_at or metrics.finished_at),
        ttft_s=_elapsed(metrics.queued_at, metrics.first_token_at),
        decode_time_s=_elapsed(metrics.first_token_at, metrics.finished_at),
        prompt_tokens=metrics.prompt_tokens,
        completion_tokens=metrics.completion_tokens,
        num_steps=metrics.num_steps,
        drafted_by_position=metrics.drafted_by_position,
        accepted_by_position=metrics.accepted_by_position,
        error=finished.error,
        num_rows=metrics.num_rows,
    )


def _elapsed(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else _seconds(begin, end)


def _seconds(begin: datetime, end: datetime) -> float:
    return max(0.0, (end - begin).total_seconds())
