"""Turns stored grades into the shapes that clients see."""

from typing import Any

from api.schemas.grading import GradeOut, SubmissionOut
from db.models import Submission
from db.submissions import BookRow
from scheduler.core.grading import Grade, Grading, GradingMethod
from scheduler.core.states import ProblemState

_OPTIONS = {
    GradingMethod.EQUIVALENCE: (),
    GradingMethod.NUMERIC: ("absolute", "relative"),
    GradingMethod.CHOICE: ("choices",),
    GradingMethod.EXACT: ("ignore_case", "ignore_space"),
    GradingMethod.REGEX: ("pattern",),
}
_OPEN = (ProblemState.PENDING, ProblemState.DISPATCHED, ProblemState.RUNNING)


def grading_view(stored: dict[str, Any]) -> dict[str, Any]:
    """A method with the options that it reads."""
    values = Grading.from_dict(stored).to_dict()
    names = ("method", *_OPTIONS[GradingMethod(values["method"])])
    return {name: values[name] for name in names}


def own_grade(is_correct: bool | None) -> Grade | None:
    """Of our answer."""
    if is_correct is None:
        return None
    return Grade.RIGHT if is_correct else Grade.WRONG


def own_reason(is_correct: bool | None, reason: str | None) -> str | None:
    """Why our answer is right or wrong; a vote that no worker closed has no words of its own."""
    if is_correct is None or reason is not None:
        return reason
    return (
        "the branches behind it were right" if is_correct else "the branches behind it were wrong"
    )


def submission_view(submission: Submission, problem_state: str) -> SubmissionOut:
    """A submission; one whose problem ended before its grade is ungradable."""
    grade, reason = _settled(submission.grade, submission.reason, problem_state)
    return SubmissionOut(
        id=submission.key,
        answer=submission.answer,
        grade=grade,
        reason=reason,
        confidence=submission.confidence,
        graded_at=submission.graded_at,
    )


def book_view(row: BookRow, job_grading: dict[str, Any]) -> GradeOut:
    """One answer to one problem in the grade book."""
    if row.submission_key is None:
        grade, reason = own_grade(row.is_correct), own_reason(row.is_correct, row.reason)
    else:
        grade, reason = _settled(row.grade, row.reason, row.state)
    return GradeOut(
        problem_id=row.key,
        submission_id=row.submission_key,
        answer=row.answer,
        grade=grade,
        method=GradingMethod((row.grading or job_grading)["method"]),
        reason=reason,
        reference_answer=row.reference_answer,
        confidence=row.confidence,
        graded_at=row.graded_at,
    )


def _settled(
    grade: str | None, reason: str | None, problem_state: str
) -> tuple[Grade | None, str | None]:
    if grade is not None:
        return Grade(grade), reason
    if problem_state in _OPEN:
        return None, None
    return Grade.UNGRADABLE, f"the problem ended before it was graded: it is {problem_state}"
