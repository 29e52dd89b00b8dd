"""Parts of jobs: their problems with a deadline of their own, which are planned like jobs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, func, insert, select, text
from sqlalchemy.orm import Session

from db.models import Batch, Job, JobPart
from db.plans import forecast_columns, plan_columns, promise_columns
from scheduler.core.decisions import Admitted


@dataclass(frozen=True, slots=True)
class NewPart:
    """Problems of a submission with the same deadline of their own.

    Attributes:
        number: From 1.
    """

    number: int
    deadline_at: datetime
    num_problems: int


def insert_parts(
    session: Session, job_id: str, parts: Iterable[tuple[NewPart, Admitted]], now: datetime
) -> None:
    """Store the parts of a stored job, each with its first plan and the forecast of now."""
    rows = [
        {
            "job_id": job_id,
            "part": part.number,
            "deadline_at": part.deadline_at,
            "num_problems": part.num_problems,
            **promise_columns(admitted.forecast, now),
            **plan_columns(admitted.plan),
            **forecast_columns(admitted.forecast, now),
        }
        for part, admitted in parts
    ]
    if rows:
        session.execute(insert(JobPart), rows)


def parts_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[JobPart]]:
    """The parts of jobs that have any, nearest deadline first, by job id."""
    found = defaultdict[str, list[JobPart]](list)
    wanted = select(JobPart).where(JobPart.job_id.in_(job_ids))
    for part in session.scalars(wanted.order_by(JobPart.deadline_at, JobPart.part)):
        found[part.job_id].append(part)
    return dict(found)


def batch_deadline() -> ColumnElement[datetime]:
    """When the problems of a batch are due, in a statement with `Batch` and its `Job`."""
    own = (
        select(JobPart.deadline_at)
        .where(JobPart.job_id == Batch.job_id, JobPart.part == Batch.part)
        .scalar_subquery()
    )
    # NULL, where they have no deadline of their own, is passed over.
    return func.least(own, Job.deadline_at, type_=Job.deadline_at.type)


_LIVE_PARTS = text("""
SELECT
    job_parts.*,
    num_pending,
    num_in_flight
FROM job_parts
JOIN jobs ON jobs.id = job_parts.job_id
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE state = 'pending') AS num_pending,
        count(*) FILTER (WHERE state <> 'pending') AS num_in_flight
    FROM problems
    WHERE problems.job_id = job_parts.job_id AND problems.part = job_parts.part
        AND problems.part > 0 AND problems.finished_at IS NULL
) AS open
WHERE jobs.finished_at IS NULL AND jobs.state IN ('queued', 'running')
    AND num_pending + num_in_flight > 0
ORDER BY job_parts.job_id, job_parts.part
""")


def live_parts(session: Session) -> dict[str, list[Row[tuple[object, ...]]]]:
    """Parts of live jobs with open problems, with their counts, by job id."""
    found = defaultdict[str, list[Row[tuple[object, ...]]]](list)
    for row in session.execute(_LIVE_PARTS):
        found[row.job_id].append(row)
    return dict(found)
