"""Plans and forecasts of jobs and their parts, as clients see them."""

from collections.abc import Sequence

import numpy as np

from api.schemas.jobs import AtRiskOut, ForecastOut, PartOut, PlanOut
from db.models import Job, JobPart
from scheduler.core.decisions import RiskReason


def part_view(job: Job, part: JobPart) -> PartOut:
    """Problems of a job with a deadline of their own."""
    return PartOut(
        deadline_at=min(part.deadline_at, job.deadline_at),
        num_problems=part.num_problems,
        plan=plan_view(part),
        predicted=_predicted_view(part),
        admitted=admitted_view(part),
        at_risk=risk_view(part) if job.finished_at is None else None,
        met_deadline=part.met_deadline,
    )


def plan_view(planned: Job | JobPart) -> PlanOut | None:
    """The split in force; None before the first."""
    if (
        planned.num_branches is None
        or planned.num_speculative_tokens is None
        or planned.plan_max_tokens is None
        or planned.wave_size is None
    ):
        return None
    return PlanOut(
        num_branches=planned.num_branches,
        num_speculative_tokens=planned.num_speculative_tokens,
        max_tokens=planned.plan_max_tokens,
        max_branches=planned.plan_max_branches or 0,
        wave_size=planned.wave_size,
    )


def admitted_view(planned: Job | JobPart) -> ForecastOut:
    """The forecast on which it was accepted."""
    return ForecastOut(
        finish_at=planned.admitted_finish_at,
        finish_p95_at=planned.admitted_finish_p95_at,
        accuracy=planned.admitted_accuracy,
    )


def predicted_of_all(job: Job, parts: Sequence[JobPart]) -> ForecastOut | None:
    """The latest forecast of a job as a whole: it ends when the last of its parts does."""
    num_left = job.num_problems - sum(part.num_problems for part in parts)
    counted: list[tuple[Job | JobPart, int]] = [(part, part.num_problems) for part in parts]
    if num_left:
        counted.append((job, num_left))
    known = [(view, number) for row, number in counted if (view := _predicted_view(row))]
    if not known:
        return None
    return ForecastOut(
        finish_at=max(view.finish_at for view, _ in known),
        finish_p95_at=max(view.finish_p95_at for view, _ in known),
        accuracy=float(
            np.average([view.accuracy for view, _ in known], weights=[n for _, n in known])
        ),
    )


def risk_view(planned: Job | JobPart) -> AtRiskOut | None:
    """Why its promised deadline may be missed; None while it is not at risk."""
    if planned.risk_reason is None or planned.at_risk_since is None:
        return None
    return AtRiskOut(
        reason=RiskReason(planned.risk_reason),
        since=planned.at_risk_since,
        finish_p95_at=planned.risk_finish_p95_at,
    )


def _predicted_view(planned: Job | JobPart) -> ForecastOut | None:
    finish_at, finish_p95_at = planned.predicted_finish_at, planned.predicted_finish_p95_at
    accuracy = planned.predicted_accuracy
    if finish_at is None or finish_p95_at is None or accuracy is None:
        return None
    return ForecastOut(finish_at=finish_at, finish_p95_at=finish_p95_at, accuracy=accuracy)
