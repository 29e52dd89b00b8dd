"""Stores the problems of a submission, with their submissions, before there is a job for them.

Theory of operation: problems are checked and copied in one pass, so Postgres writes some while the
next are read. Their job is admitted after that, when it is known how many they are and how long,
and its turn among all admissions is as short for a large set as for a small one. What is refused
rolls back with the transaction.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.problem_deadlines import ProblemDeadlines
from api.problem_set import ProblemSet
from api.schemas.submission import JobOptions, ProblemIn
from api.submission import Submission
from db.jobs import new_job_id
from db.problems import NewProblem, insert_problems
from db.submissions import NewSubmission, insert_submissions


@dataclass(frozen=True, slots=True)
class Loaded:
    """A submission whose problems are stored, for a job that is not yet."""

    job_id: str
    options: JobOptions
    problems: ProblemSet
    sha256: str


def load(session: Session, submission: Submission) -> Loaded:
    """Check and store the problems of a submission; memory is bounded.

    Raises:
        ApiError: 400 for the first bad problem, with its line or index; 413 for too many.
    """
    job_id = new_job_id()
    reading = submission.problems
    insert_problems(session, job_id, (_new_problem(p, reading.deadlines) for p in reading))
    problems = reading.checked
    if problems.num_submissions:
        insert_submissions(session, job_id, map(_new_submissions, problems))
    return Loaded(job_id, submission.options, problems, submission.sha256())


def _new_problem(problem: ProblemIn, deadlines: ProblemDeadlines) -> NewProblem:
    return NewProblem(
        key=problem.id or "",
        prompt=problem.prompt,
        reference_answer=problem.reference_answer,
        grading=None if problem.grading is None else problem.grading.grading().to_dict(),
        part=deadlines.part_of(problem),
    )


def _new_submissions(problem: ProblemIn) -> list[NewSubmission]:
    return [NewSubmission(new.id or "", new.answer, new.text) for new in problem.submissions]
