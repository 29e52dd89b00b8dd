"""What `decide` returns: the writes and messages of one tick."""

from dataclasses import dataclass
from enum import StrEnum

from scheduler.core.plan import Forecast, Plan


class RejectReason(StrEnum):
    """Why a job is refused at submit; shown to the client as the error code."""

    DEADLINE_INFEASIBLE = "deadline_infeasible"
    NO_CAPACITY = "no_capacity"


class Verdict(StrEnum):
    """What a submission is told."""

    ACCEPTED = "accepted"
    ACCEPTED_DEGRADED = "accepted_degraded"
    REFUSED = "refused"


class PlanReason(StrEnum):
    """Why a plan is put in force."""

    FIRST_PLAN = "first_plan"
    DEADLINE_AT_RISK = "deadline_at_risk"
    """No plan fits with 95% any more: answer what can still be answered."""
    BEST_EFFORT = "best_effort"
    """Nothing was promised: answer what can be answered with what other jobs leave."""
    NO_LONGER_OFFERED = "no_longer_offered"
    """Workers or profiles changed, and the plan before is no candidate now."""
    WOULD_BE_LATE = "would_be_late"
    """The plan before would no longer finish in time with 95%."""
    MORE_ACCURATE = "more_accurate"
    """There is room for a materially more accurate plan."""
    ROWS_NEEDED = "rows_needed"
    """The plan before costs materially more than this one, and other jobs need the rows."""


class LossReason(StrEnum):
    """Why a batch is taken from its worker."""

    LEASE_OVER = "lease_over"
    WORKER_GONE = "worker_gone"
    WORKER_RESTARTED = "worker_restarted"
    MODEL_CHANGED = "model_changed"
    """The worker's name serves another model now."""
    NOTHING_OPEN = "nothing_open"
    """Planned for problems that have ended since."""
    GIVEN_BACK = "given_back"
    """The worker shut down and let go by itself."""


class RiskReason(StrEnum):
    """Why a promised deadline is at risk."""

    NO_WORKER = "no_worker"
    """Nobody serves the model now."""
    TOO_LATE = "too_late"
    """Even the plan that needs the least time would end after the deadline with 5%."""
    OVERDUE = "overdue"
    """All problems are with workers, and take longer than 95% of such jobs."""


RISKS = (None, *RiskReason)
"""What a job may have been told, in the order of their numbers in columns."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job is taken.

    Attributes:
        degraded: The accuracy asked for will not be reached, or there is no promise.
        is_promised: False for a best effort, whose deadline may cut off problems.
    """

    plan: Plan
    forecast: Forecast
    degraded: bool
    is_promised: bool = True

    @property
    def verdict(self) -> Verdict:
        """What the client is told."""
        return Verdict.ACCEPTED_DEGRADED if self.degraded else Verdict.ACCEPTED


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
    """Store this plan and forecast for the pending problems of a job, or of a part of it.

    Attributes:
        reason: None from a policy that gives none.
        part: As in `JobView`.
    """

    job_id: str
    plan: Plan
    forecast: Forecast
    reason: PlanReason | None = None
    part: int = 0


@dataclass(frozen=True, slots=True)
class Risk:
    """The deadline of a job has come at risk, for another reason than before, or is no longer.

    Attributes:
        reason: None when it is on track again.
        finish_p95_s: Seconds from now until it would end with 95%, whatever the deadline cuts, with
            the plan that needs the least time; None where that is not known.
        part: As in `JobView`.
    """

    job_id: str
    reason: RiskReason | None
    finish_p95_s: float | None
    part: int = 0


@dataclass(frozen=True, slots=True)
class PlanFailure:
    """The job could not be planned in this tick: `error` says why. A later tick tries again."""

    job_id: str
    error: str


@dataclass(frozen=True, slots=True)
class LostBatch:
    """Take the batch from its worker; its open problems are pending again."""

    batch_id: int
    reason: LossReason


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Give `num_problems` pending problems of the job, in order of position, to the worker.

    Attributes:
        part: As in `JobView`; a batch has problems of one part.
    """

    job_id: str
    worker_name: str
    num_problems: int
    plan: Plan
    part: int = 0


@dataclass(frozen=True, slots=True)
class Decisions:
    """One tick's outcome, in the order in which the shell applies it.

    Attributes:
        lost_batches: Batches that nobody works on any more.
        expired_jobs: Ids of jobs whose deadline has passed: answer from what finished.
        expired_parts: The same of parts with a deadline of their own, (job id, part).
        plans: Plans to store.
        new_batches: Batches to create and send.
        resend_batches: Ids of planned batches whose message seems lost.
        plan_failures: Jobs that could not be planned, by id.
        risks: What is to be told of promised deadlines.
    """

    lost_batches: tuple[LostBatch, ...] = ()
    expired_jobs: tuple[str, ...] = ()
    expired_parts: tuple[tuple[str, int], ...] = ()
    plans: tuple[JobPlanned, ...] = ()
    new_batches: tuple[NewBatch, ...] = ()
    resend_batches: tuple[int, ...] = ()
    plan_failures: tuple[PlanFailure, ...] = ()
    risks: tuple[Risk, ...] = ()
