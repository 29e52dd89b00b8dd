"""What `decide` returns: the writes and messages of one tick."""

from dataclasses import dataclass, field
from enum import StrEnum

from scheduler.core.plan import Forecast, Plan


class RejectReason(StrEnum):
    """Why a job is refused at submit; shown to the client as the error code."""

    DEADLINE_INFEASIBLE = "deadline_infeasible"
    NO_CAPACITY = "no_capacity"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job fits. `degraded` says that the accuracy asked for will not be reached."""

    plan: Plan
    forecast: Forecast
    degraded: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """The job does not fit.

    Attributes:
        earliest_finish_s: Seconds from now of the earliest feasible P95 finish; None when no
            worker serves the model.
    """

    reason: RejectReason
    earliest_finish_s: float | None


@dataclass(frozen=True, slots=True)
class JobPlanned:
    """Store this plan and forecast for the job's pending problems."""

    job_id: str
    plan: Plan
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Give `num_problems` pending problems of the job, in order of position, to the worker."""

    job_id: str
    worker_name: str
    num_problems: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Decisions:
    """One tick's outcome, in the order in which the shell applies it.

    Attributes:
        lost_batches: Ids of batches whose lease ran out or whose worker is gone.
        expired_jobs: Ids of jobs whose deadline has passed: answer from what finished.
        plans: Plans to store.
        new_batches: Batches to create and send.
        resend_batches: Ids of planned batches whose message seems lost.
    """

    lost_batches: tuple[int, ...] = ()
    expired_jobs: tuple[str, ...] = ()
    plans: tuple[JobPlanned, ...] = ()
    new_batches: tuple[NewBatch, ...] = ()
    resend_batches: tuple[int, ...] = field(default=())
