"""States of jobs, problems, batches, OpenAI batches and deliveries; the only arrows between them.

Theory of operation: a transition is one guarded UPDATE whose WHERE clause repeats the source
state, so of two writers one wins. Terminal states have no arrow out. A deadline may strike at any
moment, so every live state of a job or problem has an arrow to its deadline outcome.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar


class JobState(StrEnum):
    """One submission's life."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


LIVE = (JobState.QUEUED, JobState.RUNNING)
"""States in which a job may get plans and batches."""


class ProblemState(StrEnum):
    """One prompt's life."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    ANSWERED = "answered"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchState(StrEnum):
    """One dispatch of problems to one worker."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    DONE = "done"
    LOST = "lost"
    CANCELLED = "cancelled"


class OpenaiBatchState(StrEnum):
    """The life of a batch as the OpenAI API tells it."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class DeliveryState(StrEnum):
    """The way of one event to one webhook."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        JobState.QUEUED: frozenset(
            # Straight to expired: the deadline struck before any worker took a problem.
            {JobState.RUNNING, JobState.EXPIRED, JobState.FAILED, JobState.CANCELLING}
        ),
        JobState.RUNNING: frozenset(
            {JobState.COMPLETED, JobState.EXPIRED, JobState.FAILED, JobState.CANCELLING}
        ),
        JobState.COMPLETED: frozenset(),
        JobState.EXPIRED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLING: frozenset({JobState.CANCELLED}),
        JobState.CANCELLED: frozenset(),
    }
)

PROBLEM_TRANSITIONS: Mapping[ProblemState, frozenset[ProblemState]] = MappingProxyType(
    {
        ProblemState.PENDING: frozenset(
            # Answered from pending: rescued after some branches finished, then the deadline struck.
            {
                ProblemState.DISPATCHED,
                ProblemState.ANSWERED,
                ProblemState.EXPIRED,
                # Its job cannot be planned.
                ProblemState.FAILED,
                ProblemState.CANCELLED,
            }
        ),
        ProblemState.DISPATCHED: frozenset(
            {
                ProblemState.RUNNING,
                ProblemState.PENDING,
                ProblemState.ANSWERED,
                ProblemState.EXPIRED,
                ProblemState.FAILED,
                ProblemState.CANCELLED,
            }
        ),
        ProblemState.RUNNING: frozenset(
            {
                ProblemState.PENDING,
                ProblemState.ANSWERED,
                ProblemState.EXPIRED,
                ProblemState.FAILED,
                ProblemState.CANCELLED,
            }
        ),
        ProblemState.ANSWERED: frozenset(),
        ProblemState.EXPIRED: frozenset(),
        ProblemState.FAILED: frozenset(),
        ProblemState.CANCELLED: frozenset(),
    }
)

BATCH_TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = MappingProxyType(
    {
        BatchState.PLANNED: frozenset({BatchState.CLAIMED, BatchState.LOST, BatchState.CANCELLED}),
        BatchState.CLAIMED: frozenset({BatchState.DONE, BatchState.LOST, BatchState.CANCELLED}),
        BatchState.DONE: frozenset(),
        BatchState.LOST: frozenset(),
        BatchState.CANCELLED: frozenset(),
    }
)

OPENAI_BATCH_TRANSITIONS: Mapping[OpenaiBatchState, frozenset[OpenaiBatchState]] = MappingProxyType(
    {
        OpenaiBatchState.VALIDATING: frozenset(
            {
                OpenaiBatchState.FAILED,
                OpenaiBatchState.IN_PROGRESS,
                # The window was over before its file was read or a worker came.
                OpenaiBatchState.EXPIRED,
                # Nothing runs yet that would have to stop first.
                OpenaiBatchState.CANCELLED,
            }
        ),
        OpenaiBatchState.FAILED: frozenset(),
        OpenaiBatchState.IN_PROGRESS: frozenset(
            {OpenaiBatchState.FINALIZING, OpenaiBatchState.CANCELLING}
        ),
        OpenaiBatchState.FINALIZING: frozenset(
            {OpenaiBatchState.COMPLETED, OpenaiBatchState.EXPIRED}
        ),
        OpenaiBatchState.COMPLETED: frozenset(),
        OpenaiBatchState.EXPIRED: frozenset(),
        OpenaiBatchState.CANCELLING: frozenset({OpenaiBatchState.CANCELLED}),
        OpenaiBatchState.CANCELLED: frozenset(),
    }
)

DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = MappingProxyType(
    {
        DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.DEAD}),
        # Back to pending by hand only.
        DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
        DeliveryState.DEAD: frozenset({DeliveryState.PENDING}),
    }
)

State = TypeVar("State", JobState, ProblemState, BatchState, OpenaiBatchState, DeliveryState)


def sources_of(target: State, transitions: Mapping[State, frozenset[State]]) -> tuple[State, ...]:
    """States from which `target` may be entered, in the table's order."""
    return tuple(source for source, targets in transitions.items() if target in targets)


def terminal_states(transitions: Mapping[State, frozenset[State]]) -> tuple[State, ...]:
    """States with no arrow out, in the table's order."""
    return tuple(state for state, targets in transitions.items() if not targets)
