"""What a client is told whose job is refused."""

from datetime import timedelta

from api.deadlines import show
from api.errors import ApiError
from db.jobs import NewJob
from scheduler.core.decisions import Rejected, RejectReason

_RETRY_CAPACITY_S = 5


class RefusedError(Exception):
    """Admission refused the job.

    Attributes:
        error: What the client is told.
    """

    def __init__(self, rejected: Rejected, job: NewJob, *, best_effort: bool) -> None:
        super().__init__(rejected.reason)
        self.rejected = rejected
        self.job = job
        self.error = _refusal(rejected, job, best_effort)


def no_capacity(model: str) -> ApiError:
    """A 503: the model is known, and nobody serves it now."""
    return ApiError(
        503,
        RejectReason.NO_CAPACITY.value,
        f"No worker serves '{model}' right now. Retry in {_RETRY_CAPACITY_S} seconds, or"
        " start a worker.",
        headers={"Retry-After": str(_RETRY_CAPACITY_S)},
    )


def _refusal(rejected: Rejected, job: NewJob, best_effort: bool) -> ApiError:
    if rejected.earliest_finish_s is None:
        return no_capacity(job.model)
    # A best effort is refused where even its presence would make a promised job late.
    otherwise = "" if best_effort else ", or 'best_effort' to get what can be answered by then"
    earliest_at = job.created_at + timedelta(seconds=rejected.earliest_finish_s)
    return ApiError(
        422,
        rejected.reason.value,
        f"The job cannot meet its deadline {show(job.deadline_at)}. The earliest feasible finish"
        f" is {show(earliest_at)}, {rejected.earliest_finish_s:.1f} seconds from now: give a later"
        f" deadline or fewer problems{otherwise}.",
        param="deadline",
        extra={
            "earliest_finish_at": earliest_at.isoformat(),
            "earliest_finish_s": rejected.earliest_finish_s,
        },
    )
