"""What a client is told whose job is refused."""

from dataclasses import replace
from datetime import datetime, timedelta

from api.deadlines import show
from api.errors import ApiError
from db.jobs import NewJob
from scheduler.core.decisions import Rejected, RejectReason
from scheduler.core.snapshot import JobView

_RETRY_CAPACITY_S = 5


class RefusedError(Exception):
    """Admission refused the job.

    Args:
        part: Of the job, for which it was; None for a job without parts.

    Attributes:
        job: What was refused.
        error: What the client is told.
    """

    def __init__(
        self, rejected: Rejected, job: NewJob, *, best_effort: bool, part: JobView | None = None
    ) -> None:
        super().__init__(rejected.reason)
        if part is not None:
            job = replace(job, deadline_at=part.deadline_at, num_problems=part.num_pending)
        self.rejected = rejected
        self.job = job
        self.error = refusal(
            rejected,
            model=job.model,
            deadline_at=job.deadline_at,
            now=job.created_at,
            best_effort=best_effort,
            num_due=None if part is None else part.num_pending,
        )


def no_capacity(model: str) -> ApiError:
    """A 503: the model is known, and nobody serves it now."""
    return ApiError(
        503,
        RejectReason.NO_CAPACITY.value,
        f"No worker serves '{model}' right now. Retry in {_RETRY_CAPACITY_S} seconds, or"
        " start a worker.",
        headers={"Retry-After": str(_RETRY_CAPACITY_S)},
    )


def refusal(
    rejected: Rejected,
    *,
    model: str,
    deadline_at: datetime,
    now: datetime,
    best_effort: bool,
    num_due: int | None = None,
) -> ApiError:
    """What a client is told whose deadline cannot be met.

    Args:
        best_effort: Whether the client would have done without a promise.
        num_due: Problems that it is the deadline of; None for all of the job.
    """
    if rejected.earliest_finish_s is None:
        return no_capacity(model)
    # A best effort is refused where even its presence would make a promised job late.
    otherwise = "" if best_effort else ", or 'best_effort' to get what can be answered by then"
    earliest_at = now + timedelta(seconds=rejected.earliest_finish_s)
    # What is shown has no fractions of a second, and must be feasible as well.
    shown_at = earliest_at + timedelta(microseconds=999_999)
    what = "The job cannot meet its deadline"
    if num_due is not None:
        what = f"Of its problems, the job cannot answer the {num_due} that are due by"
    return ApiError(
        422,
        rejected.reason.value,
        f"{what} {show(deadline_at)}. The earliest feasible finish"
        f" is {show(shown_at)}, {rejected.earliest_finish_s:.1f} seconds from now: give a later"
        f" deadline or fewer problems{otherwise}.",
        param="deadline",
        extra={
            "earliest_finish_at": earliest_at.isoformat(),
            "earliest_finish_s": rejected.earliest_finish_s,
        },
    )
