"""Another try for what a job left without an answer: its problems in a new job."""

from sqlalchemy import ColumnElement, and_, func, or_, select, text
from sqlalchemy.orm import Session

from db.models import Problem
from scheduler.core.states import ProblemState

_LEFT = (ProblemState.EXPIRED, ProblemState.FAILED)

_COPY_PROBLEMS = text("""
INSERT INTO problems (
    job_id, key, position, prompt, messages, reference_answer, grading, state
)
SELECT
    :job_id,
    key,
    row_number() OVER (ORDER BY position) - 1,
    prompt,
    messages,
    reference_answer,
    grading,
    'pending'
FROM problems
WHERE job_id = :source_id AND (state = ANY(:states) OR (:degraded AND degraded))
""")

# Keys are unique within a job, so they tell which problem a submission belongs to.
_COPY_SUBMISSIONS = text("""
INSERT INTO submissions (job_id, problem_position, position, key, answer, text)
SELECT
    again.job_id,
    again.position,
    submissions.position,
    submissions.key,
    submissions.answer,
    submissions.text
FROM submissions
JOIN problems AS first
    ON first.job_id = submissions.job_id AND first.position = submissions.problem_position
JOIN problems AS again ON again.job_id = :job_id AND again.key = first.key
WHERE submissions.job_id = :source_id
""")


def count_left(session: Session, job_id: str, *, degraded: bool) -> int:
    """Problems of an ended job that a retry takes up."""
    found = select(func.count()).where(Problem.job_id == job_id, _is_left(degraded))
    return session.scalar(found) or 0


def copy_left(session: Session, *, source_id: str, job_id: str, degraded: bool) -> None:
    """Give the new job the problems that are left of an ended one, with submissions to grade."""
    jobs = {"source_id": source_id, "job_id": job_id}
    session.execute(_COPY_PROBLEMS, {**jobs, "states": list(_LEFT), "degraded": degraded})
    session.execute(_COPY_SUBMISSIONS, jobs)


def _is_left(degraded: bool) -> ColumnElement[bool]:
    is_left = Problem.state.in_(_LEFT)
    if not degraded:
        return is_left
    return or_(is_left, and_(Problem.state == ProblemState.ANSWERED, Problem.degraded))
