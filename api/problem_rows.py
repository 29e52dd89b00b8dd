"""Stores the problems of a checked set with their submissions."""

from sqlalchemy.orm import Session

from api.problem_set import ProblemSet
from api.schemas.submission import ProblemIn
from db.problems import NewProblem, insert_problems
from db.submissions import NewSubmission, insert_submissions


def insert_problem_set(session: Session, job_id: str, problems: ProblemSet) -> None:
    """Stream a set into a stored job."""
    insert_problems(session, job_id, map(_new_problem, problems))
    if problems.num_submissions:
        insert_submissions(session, job_id, map(_new_submissions, problems))


def _new_problem(problem: ProblemIn) -> NewProblem:
    return NewProblem(
        key=problem.id or "",
        prompt=problem.prompt,
        reference_answer=problem.reference_answer,
        grading=None if problem.grading is None else problem.grading.grading().to_dict(),
    )


def _new_submissions(problem: ProblemIn) -> list[NewSubmission]:
    return [NewSubmission(new.id or "", new.answer, new.text) for new in problem.submissions]
