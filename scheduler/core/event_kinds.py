"""Kinds of job events: the only names by which a job's history, streams and webhooks tell of it.

Theory of operation: an event is stored in the transaction of what it tells of, once. Entering a
state of a job or a batch is an event of the kind `job.STATE` or `batch.STATE`, so the tables in
`states` name most kinds. Batches are those that workers take; clients see them in events only.
"""

from enum import StrEnum

from scheduler.core.states import JOB_TRANSITIONS, BatchState, JobState, terminal_states


class EventKind(StrEnum):
    """What an event tells of."""

    JOB_QUEUED = "job.queued"
    """A submission was accepted; `data` has the verdict and the decision behind it."""
    JOB_RUNNING = "job.running"
    """A worker began with the first problems."""
    JOB_COMPLETED = "job.completed"
    """Every problem ended and none expired; `data` counts them by outcome. The end."""
    JOB_EXPIRED = "job.expired"
    """The deadline left problems without any branch; `data` as of `job.completed`. The end."""
    JOB_FAILED = "job.failed"
    """Every problem failed; `data` as of `job.completed`. The end."""
    JOB_CHANGED = "job.changed"
    """The client gave it another deadline or weight; `data` has both, and those before."""
    JOB_AT_RISK = "job.at_risk"
    """A promised deadline may be missed; `data` has the reason and the finish predicted (95%)."""
    JOB_ON_TRACK = "job.on_track"
    """It no longer may; `data` has the finish predicted (95%)."""
    JOB_CANCELLING = "job.cancelling"
    """The client asked to stop."""
    JOB_CANCELLED = "job.cancelled"
    """It has stopped; `data` counts the problems that were open. The end."""
    JOB_PROGRESS = "job.progress"
    """How many problems are in which state, and the slack. Streamed while it runs, never stored."""
    PLAN_STORED = "plan.stored"
    """The scheduler chose another split."""
    PLAN_FAILED = "plan.failed"
    """The scheduler could not plan the job; `data` has the error."""
    DEADLINE_STRUCK = "deadline.struck"
    """The deadline closed problems; `data` counts them by state."""
    BATCH_PLANNED = "batch.planned"
    """Problems were given to a worker."""
    BATCH_CLAIMED = "batch.claimed"
    """The worker took them."""
    BATCH_DONE = "batch.done"
    """The worker is done with them; `data` compares the plan with what came."""
    BATCH_LOST = "batch.lost"
    """They were taken from the worker and are pending again; `data` says why."""
    BATCH_CANCELLED = "batch.cancelled"
    """They were closed by a cancel or the deadline."""

    @classmethod
    def of_job(cls, state: JobState) -> "EventKind":
        """The kind of a job that entered `state`."""
        return cls(f"job.{state}")

    @classmethod
    def of_batch(cls, state: BatchState) -> "EventKind":
        """The kind of a batch that entered `state`."""
        return cls(f"batch.{state}")


ENDS = frozenset(map(EventKind.of_job, terminal_states(JOB_TRANSITIONS)))
"""The last event of a job is one of these."""
