"""Makes timelines and votes out of stored branches."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from api.schemas.timelines import SpanOut, VoteOut, WorkerTimelineOut
from db.branches import COUNTED_REASONS
from db.models import Branch
from db.timeline import NUM_MOMENTS, MomentSum, Span
from scheduler.core.stopping import plurality


def worker_timelines(
    sums: Sequence[MomentSum], *, bin_s: float, num_bins: int
) -> list[WorkerTimelineOut]:
    """Mean branches per phase and bin, exact however short a branch is.

    The time that branches have spent behind a moment until the edge t is the sum of t less the
    moments before t; between two moments lies a phase, and between two edges a bin.
    """
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, NUM_MOMENTS, num_bins)))
    for row in sums:
        counts[row.worker][:, row.moment, row.bin] = row.num_branches, row.sum_s
    edges = bin_s * np.arange(1, num_bins + 1)
    timelines = []
    for name, (passed, sums_s) in sorted(counts.items()):
        behind_s = edges * passed.cumsum(axis=1) - sums_s.cumsum(axis=1)  # (moments, bins)
        in_phase_s = np.diff(behind_s[:-1] - behind_s[1:], axis=1, prepend=0.0)  # (phases, bins)
        waiting, prefill, decode = np.maximum(in_phase_s / bin_s, 0.0).round(4).tolist()
        timelines.append(
            WorkerTimelineOut(name=name, waiting=waiting, prefill=prefill, decode=decode)
        )
    return timelines


def span_view(span: Span) -> SpanOut:
    """One branch of a timeline."""
    return SpanOut(
        problem_id=span.key,
        position=span.position,
        branch_index=span.branch_index,
        worker=span.worker_name,
        num_speculative_tokens=span.num_speculative_tokens,
        finish_reason=span.finish_reason,
        answer=span.answer,
        is_correct=span.is_correct,
        queued_at=span.queued_at,
        started_at=span.started_at,
        first_token_at=_first_token_at(span),
        finished_at=span.finished_at,
        completion_tokens=span.completion_tokens,
    )


def _first_token_at(span: Span) -> datetime | None:
    """Between start and finish: instants and durations were not rounded together."""
    if span.started_at is None or span.ttft_s is None:
        return None
    at = span.queued_at + timedelta(seconds=span.ttft_s)
    return min(max(at, span.started_at), span.finished_at)


def vote_views(branches: Sequence[Branch]) -> list[VoteOut]:
    """The votes of a problem's branches, most first."""
    finished = sorted(
        (branch for branch in branches if branch.finish_reason in COUNTED_REASONS),
        key=lambda branch: (branch.finished_at, branch.branch_index),
    )
    by_class: dict[int, list[Branch]] = defaultdict(list)
    for branch in finished:
        if branch.vote_class is not None:
            by_class[branch.vote_class].append(branch)
    winner = plurality([branch.vote_class for branch in finished])
    votes = [
        VoteOut(
            answer=members[0].answer or "",
            num_votes=len(members),
            share=len(members) / len(finished),
            is_correct=members[0].is_correct,
            wins=winner is not None and winner.vote_class == vote_class,
        )
        for vote_class, members in by_class.items()
    ]
    return sorted(votes, key=lambda vote: (-vote.num_votes, not vote.wins))
