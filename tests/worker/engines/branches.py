"""Builds branch requests, waits for their events and checks them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue

import pytest

from worker.engines.base import BranchFinished, BranchRequest, FinishReason, Sampling

PATIENCE_S = 60.0

Events = SimpleQueue[BranchFinished]


def branch(branch_id: str, prompt: str, **changes: object) -> BranchRequest:
    """Builds a short branch; `changes` replace its fields."""
    request = BranchRequest(
        branch_id=branch_id,
        prompt=prompt,
        branch_index=0,
        num_speculative_tokens=0,
        max_tokens=6,
        sampling=Sampling(),
        priority=0,
        deadline_at=datetime.now(UTC) + timedelta(minutes=5),
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def collect(events: Events, count: int) -> dict[str, BranchFinished]:
    """Waits for `count` events and returns them by branch; a branch may have only one."""
    finished = [events.get(timeout=PATIENCE_S) for _ in range(count)]
    by_id = {event.branch_id: event for event in finished}
    assert len(by_id) == count, "a branch sent two events"
    return by_id


def assert_silent(events: Events) -> None:
    """Fails if another event arrives."""
    with pytest.raises(Empty):
        events.get(timeout=0.05)


def most_running_at_once(finished: Iterable[BranchFinished]) -> int:
    """Returns how many branches ran together at most."""
    changes = []
    for event in finished:
        if event.metrics.started_at is not None:
            changes += [(event.metrics.started_at, 1), (event.metrics.finished_at, -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def assert_consistent(request: BranchRequest, event: BranchFinished) -> None:
    """Checks one event against its request and its metrics against each other."""
    metrics = event.metrics
    instants = [metrics.queued_at, metrics.started_at, metrics.first_token_at, metrics.finished_at]
    known = [instant for instant in instants if instant is not None]
    assert known == sorted(known)
    assert all(instant.utcoffset() == timedelta(0) for instant in known)
    assert (event.error is not None) == (event.finish_reason == FinishReason.ERROR)
    assert metrics.completion_tokens <= request.max_tokens
    if event.finish_reason == FinishReason.LENGTH:
        assert metrics.completion_tokens == request.max_tokens
    assert (metrics.first_token_at is None) == (metrics.completion_tokens == 0)
    drafted, accepted = metrics.drafted_by_position, metrics.accepted_by_position
    assert len(drafted) == len(accepted) <= request.num_speculative_tokens
    assert all(0 <= a <= d <= metrics.num_steps for a, d in zip(accepted, drafted, strict=True))
    # The prefill gives one token, and each step one more than it accepts, unless that is too many.
    assert metrics.completion_tokens <= 1 + metrics.num_steps + sum(accepted)
    assert metrics.completion_tokens >= metrics.num_steps
    if request.num_speculative_tokens == 0:
        assert metrics.num_steps >= metrics.completion_tokens - 1
