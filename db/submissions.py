"""Submissions: answers of others, stored with their problems and graded by workers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import Session, defer

from db.leases import hold_batch
from db.models import Job, Problem, Submission
from db.records import storable


@dataclass(frozen=True, slots=True)
class NewSubmission:
    """One answer of someone else; `text` is what to look for the answer in."""

    key: str
    answer: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class UngradedSubmission:
    """A submission that a worker has to grade."""

    position: int
    answer: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class SubmissionGrade:
    """The grade of one submission.

    Attributes:
        answer: As found in the submission; None when it names none.
        confidence: Vote share of what it was graded against; None against a reference.
    """

    problem_position: int
    position: int
    answer: str | None
    grade: str
    reason: str
    confidence: float | None


def insert_submissions(
    session: Session, job_id: str, problems: Iterable[Sequence[NewSubmission]]
) -> None:
    """Stream submissions into a job, given for each of its stored problems in order."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for problem_position, submissions in enumerate(problems):
            for position, new in enumerate(submissions):
                copy.write_row((job_id, problem_position, position, new.key, new.answer, new.text))


_COPY = "COPY submissions (job_id, problem_position, position, key, answer, text) FROM STDIN"


def ungraded_submissions(
    session: Session, *problems: ColumnElement[bool]
) -> dict[int, tuple[UngradedSubmission, ...]]:
    """Submissions without a grade of the problems that meet the conditions, by problem id."""
    found = defaultdict[int, list[UngradedSubmission]](list)
    rows = session.execute(
        select(Problem.id, Submission.position, Submission.answer, Submission.text)
        .join_from(Problem, Submission, _OF_PROBLEM)
        .where(*problems, Submission.grade.is_(None))
        .order_by(Submission.problem_position, Submission.position)
    )
    for row in rows:
        found[row.id].append(UngradedSubmission(row.position, row.answer, row.text))
    return {problem_id: tuple(submissions) for problem_id, submissions in found.items()}


_OF_PROBLEM = (Submission.job_id == Problem.job_id) & (
    Submission.problem_position == Problem.position
)


def grade_submissions(
    session: Session,
    *,
    batch_id: int,
    epoch: int,
    grades: Sequence[SubmissionGrade],
    now: datetime,
) -> bool:
    """Store grades of a held batch; writes nothing and is False when it is lost.

    A submission is graded once, however often its grade is sent.
    """
    if not hold_batch(session, batch_id=batch_id, epoch=epoch):
        return False
    if grades:
        ordered = sorted(grades, key=lambda grade: (grade.problem_position, grade.position))
        session.execute(
            _GRADE,
            {
                "batch_id": batch_id,
                "now": now,
                "problem_positions": [grade.problem_position for grade in ordered],
                "positions": [grade.position for grade in ordered],
                "answers": [storable(grade.answer) for grade in ordered],
                "grades": [grade.grade for grade in ordered],
                "reasons": [storable(grade.reason) for grade in ordered],
                "confidences": [grade.confidence for grade in ordered],
            },
        )
    return True


_GRADE = text("""
UPDATE submissions
SET answer = new.answer,
    grade = new.grade,
    reason = new.reason,
    confidence = new.confidence,
    graded_at = :now
FROM unnest(
    CAST(:problem_positions AS integer[]),
    CAST(:positions AS integer[]),
    CAST(:answers AS text[]),
    CAST(:grades AS text[]),
    CAST(:reasons AS text[]),
    CAST(:confidences AS double precision[])
) AS new (problem_position, position, answer, grade, reason, confidence)
JOIN problems ON problems.position = new.problem_position
WHERE problems.batch_id = :batch_id
    AND problems.state = 'running'
    AND submissions.job_id = problems.job_id
    AND submissions.problem_position = new.problem_position
    AND submissions.position = new.position
    AND submissions.grade IS NULL
""")


def submissions_between(
    session: Session, job_id: str, *, first: int, last: int
) -> dict[int, list[Submission]]:
    """Submissions to the problems at these positions, in their order; long texts are not read."""
    found = defaultdict[int, list[Submission]](list)
    for submission in session.scalars(
        select(Submission)
        .where(Submission.job_id == job_id, Submission.problem_position.between(first, last))
        .order_by(Submission.problem_position, Submission.position)
        .options(defer(Submission.text, raiseload=True))
    ):
        found[submission.problem_position].append(submission)
    return found


@dataclass(frozen=True, slots=True)
class BookRow:
    """One answer to one problem.

    Attributes:
        position: Of the problem.
        submission_key: None for our own answer, whose grade is `is_correct`.
        grading: Of the problem; None for that of the job.
    """

    position: int
    key: str
    state: str
    grading: dict[str, Any] | None
    reference_answer: str | None
    submission_key: str | None
    answer: str | None
    is_correct: bool | None
    grade: str | None
    reason: str | None
    confidence: float | None
    graded_at: datetime | None


def book_page(
    session: Session, job_id: str, *, after: int, limit: int
) -> tuple[list[BookRow], int | None]:
    """Answers to up to `limit` problems with a position above `after`, ours before others'.

    Returns:
        The rows, and the last position when more problems follow.
    """
    problems = session.execute(
        select(
            Problem.position,
            Problem.key,
            Problem.state,
            Problem.grading,
            Problem.reference_answer,
            Problem.answer,
            Problem.is_correct,
            Problem.grade_reason,
            Problem.vote_share,
            Problem.finished_at,
            Job.solve,
        )
        .join(Job, Job.id == Problem.job_id)
        .where(Problem.job_id == job_id, Problem.position > after)
        .order_by(Problem.position)
        .limit(limit + 1)
    ).all()
    page = problems[:limit]
    if not page:
        return [], None
    others = submissions_between(session, job_id, first=page[0].position, last=page[-1].position)
    rows = []
    for problem in page:
        asked = {
            "position": problem.position,
            "key": problem.key,
            "state": problem.state,
            "grading": problem.grading,
            "reference_answer": problem.reference_answer,
        }
        if problem.solve:
            rows.append(
                BookRow(
                    **asked,
                    submission_key=None,
                    answer=problem.answer,
                    is_correct=problem.is_correct,
                    grade=None,
                    reason=problem.grade_reason,
                    confidence=problem.vote_share,
                    graded_at=None if problem.is_correct is None else problem.finished_at,
                )
            )
        rows += [
            BookRow(
                **asked,
                submission_key=other.key,
                answer=other.answer,
                is_correct=None,
                grade=other.grade,
                reason=other.reason,
                confidence=other.confidence,
                graded_at=other.graded_at,
            )
            for other in others.get(problem.position, ())
        ]
    return rows, page[-1].position if len(problems) > limit else None
