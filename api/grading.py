"""Checks that what is to be graded can be, one problem at a time."""

from pydantic import ValidationError

from api.errors import validation_error
from api.problem_source import Place
from api.schemas.grading import RegexIn
from api.schemas.submission import JobOptions, ProblemIn


def check_gradable(place: Place, problem: ProblemIn, options: JobOptions) -> None:
    """Refuse a problem that the grading of the job, or its own, leaves without a yardstick.

    Raises:
        ApiError: 400 with the place of the problem.
    """
    grading = problem.grading or options.grading
    has_pattern = isinstance(grading, RegexIn) and grading.pattern is not None
    if isinstance(grading, RegexIn) and not has_pattern:
        if problem.reference_answer is not None:
            _check_pattern(place, problem.reference_answer)
        elif problem.submissions or problem.grading:
            raise place.error(
                "missing_pattern",
                "reference_answer",
                "the grading is by a regular expression and there is none. Give a 'pattern' in"
                " 'grading', or a 'reference_answer' that is one.",
            )
    if options.solve:
        return
    if not problem.submissions:
        raise place.error(
            "nothing_to_do",
            "submissions",
            "with 'solve' false only submissions are graded, and the problem has none.",
        )
    if problem.reference_answer is None and not has_pattern:
        raise place.error(
            "missing_reference",
            "reference_answer",
            "with 'solve' false there is no answer of ours to grade against. Give a"
            " 'reference_answer', or leave 'solve' out.",
        )


def _check_pattern(place: Place, reference: str) -> None:
    try:
        RegexIn(method="regex", pattern=reference)
    except ValidationError as error:
        refusal = validation_error(error.errors(include_url=False))
        message = refusal.message.replace("'pattern'", "'reference_answer'")
        raise place.error("invalid_value", "reference_answer", message) from None
