"""Virtual time and simulated jobs as a snapshot shows them."""

import math
from datetime import UTC, datetime, timedelta

from scheduler.core.plan import Plan
from scheduler.core.simulation.world import SimulatedJob
from scheduler.core.snapshot import JobView
from scheduler.core.states import JobState

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The instant of virtual time 0."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""End of a lease that is always renewed in time."""


def instant(at_s: float) -> datetime:
    """Virtual time as an instant."""
    return START + timedelta(seconds=at_s)


def view_of(
    job: SimulatedJob,
    *,
    plan: Plan | None,
    num_pending: int,
    num_in_flight: int,
    is_promised: bool = True,
    promised_s: float = math.nan,
) -> JobView:
    """A job as `admit` and `decide` see it.

    Args:
        promised_s: NaN where no finish was promised.
    """
    is_new = num_pending == len(job.problems)
    return JobView(
        id=job.id,
        tenant_id=job.tenant,
        model=job.model,
        state=JobState.QUEUED if is_new else JobState.RUNNING,
        created_at=instant(job.arrival_s),
        deadline_at=instant(job.deadline_s),
        weight=job.weight,
        max_branches=job.max_branches,
        max_tokens=job.max_tokens,
        min_accuracy=None,
        mean_prompt_tokens=float(job.prompt_tokens),
        num_pending=num_pending,
        num_in_flight=num_in_flight,
        plan=plan,
        tenant_share=job.tenant_share,
        num_problems=len(job.problems),
        is_promised=is_promised,
        promised_at=None if math.isnan(promised_s) else instant(promised_s),
    )
