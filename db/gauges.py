"""The store's present load in a few numbers, for metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import Job, JobPart, Problem, WebhookDelivery, Worker
from scheduler.core.states import DeliveryState, ProblemState


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is live now.

    Attributes:
        num_live_jobs: Jobs by live state; a state without jobs is absent.
        num_pending_problems: Problems of live jobs that no batch holds.
        num_jobs_at_risk: Live jobs whose promised deadline is at risk, or that of a part.
        num_workers: Workers with a recent heartbeat.
        num_pending_deliveries: Events on their way to webhooks.
        min_slack_s: Least `deadline - predicted finish` of a live job; None without a forecast.
    """

    num_live_jobs: dict[str, int]
    num_pending_problems: int
    num_jobs_at_risk: int
    num_workers: int
    num_pending_deliveries: int
    min_slack_s: float | None


def read_gauges(session: Session, *, worker_timeout_s: float, now: datetime) -> Gauges:
    """Count what is live; a worker silent for longer than the timeout is not."""
    live = Job.finished_at.is_(None)
    jobs = session.execute(
        select(Job.state, func.count().label("num_jobs")).where(live).group_by(Job.state)
    )
    part_at_risk = (
        select(JobPart.part)
        .where(JobPart.job_id == Job.id, JobPart.at_risk_since.is_not(None))
        .exists()
    )
    slack = session.scalar(
        select(func.min(func.extract("epoch", Job.deadline_at - Job.predicted_finish_at))).where(
            live
        )
    )
    return Gauges(
        num_live_jobs={row.state: row.num_jobs for row in jobs},
        num_pending_problems=session.scalars(
            select(func.count()).select_from(Problem).where(Problem.state == ProblemState.PENDING)
        ).one(),
        num_jobs_at_risk=session.scalars(
            select(func.count())
            .select_from(Job)
            .where(live, or_(Job.at_risk_since.is_not(None), part_at_risk))
        ).one(),
        num_workers=session.scalars(
            select(func.count())
            .select_from(Worker)
            .where(
                Worker.stopped_at.is_(None),
                Worker.heartbeat_at >= now - timedelta(seconds=worker_timeout_s),
            )
        ).one(),
        num_pending_deliveries=session.scalars(
            select(func.count())
            .select_from(WebhookDelivery)
            .where(WebhookDelivery.state == DeliveryState.PENDING)
        ).one(),
        min_slack_s=None if slack is None else float(slack),
    )
