"""Results: a job's problems with their answers, in the order of submission."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from db.models import Job, JobPart, Problem


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """One problem's outcome so far; answer and vote are None while it is open.

    Attributes:
        deadline_at: Of its own; None where it is due with the job.
    """

    position: int
    key: str
    state: str
    answer: str | None
    vote_share: float | None
    is_correct: bool | None
    grade_reason: str | None
    degraded: bool
    num_branches: int | None
    num_speculative_tokens: int | None
    num_branches_finished: int
    predicted_accuracy: float | None
    error: str | None
    finished_at: datetime | None
    deadline_at: datetime | None


def results_page(
    session: Session, job_id: str, *, after: int = -1, limit: int = 1000
) -> list[ProblemResult]:
    """Up to `limit` problems with a position above `after`; the last position is the cursor."""
    rows = session.execute(
        select(
            Problem.position,
            Problem.key,
            Problem.state,
            Problem.answer,
            Problem.vote_share,
            Problem.is_correct,
            Problem.grade_reason,
            Problem.degraded,
            Problem.num_branches,
            Problem.num_speculative_tokens,
            Problem.num_branches_finished,
            Problem.predicted_accuracy,
            Problem.error,
            Problem.finished_at,
            case(
                (JobPart.part.is_not(None), func.least(JobPart.deadline_at, Job.deadline_at))
            ).label("deadline_at"),
        )
        .join(Job, Job.id == Problem.job_id)
        .outerjoin(JobPart, and_(JobPart.job_id == Problem.job_id, JobPart.part == Problem.part))
        .where(Problem.job_id == job_id, Problem.position > after)
        .order_by(Problem.position)
        .limit(limit)
    )
    return [ProblemResult(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True)
class ProblemPrompt:
    """What was asked, and the answer that is known to be right."""

    prompt: str
    reference_answer: str | None


def problem_prompt(session: Session, job_id: str, position: int) -> ProblemPrompt:
    """The prompt of an existing problem."""
    row = session.execute(
        select(Problem.prompt, Problem.reference_answer).where(
            Problem.job_id == job_id, Problem.position == position
        )
    ).one()
    return ProblemPrompt(**row._mapping)
