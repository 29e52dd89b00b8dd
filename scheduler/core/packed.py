"""What a job gets: a plan with its forecast."""

from dataclasses import dataclass

from scheduler.core.decisions import PlanReason
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import JobView


@dataclass(frozen=True, slots=True)
class Packed:
    """The plan chosen for a job; `is_in_time` is False for a fallback.

    Attributes:
        reason: Why the plan differs from the stored one; None while it does not.
    """

    job: JobView
    plan: Plan
    forecast: Forecast
    is_in_time: bool
    reason: PlanReason | None = None
