"""Each method grades as it says, gives its reason, and survives what is hostile."""

import time

import pytest

from scheduler.core.grading import Grade, Grading, GradingMethod
from worker.comparison import Finding, Pair
from worker.grading import Mark, final_answer, grade
from worker.spelling import quick_finding

EXACT = GradingMethod.EXACT
CHOICE = Grading(GradingMethod.CHOICE)
LOOSE = Grading(EXACT, ignore_case=True, ignore_space=True)
RIGHT, WRONG, UNGRADABLE = Grade.RIGHT, Grade.WRONG, Grade.UNGRADABLE


def mark_of(
    answer: str,
    reference: str | None,
    grading: Grading,
    algebra: Finding | None = Finding.FAILED,
) -> Mark | None:
    """Drive the coroutine; what spelling does not tell is found by `algebra`."""
    steps = grade(answer, reference, grading)
    try:
        pair: Pair = next(steps)
        while True:
            pair = steps.send(quick_finding(pair) or algebra)
    except StopIteration as done:
        mark: Mark | None = done.value
        return mark


@pytest.mark.parametrize(
    ("answer", "reference", "grading", "expected", "reason"),
    [
        ("0.5", "1/2", Grading(), RIGHT, "equivalent to the reference 1/2 as a number"),
        ("1 / 2", "1/2", Grading(), RIGHT, "the same as the reference 1/2"),
        ("2", "1/2", Grading(), WRONG, "not equivalent to the reference 1/2"),
        ("x" * 401, "1/2", Grading(), UNGRADABLE, "more than 400 characters"),
        ("Ada ", "Ada", Grading(EXACT), RIGHT, "the same text"),
        ("ada", "Ada", Grading(EXACT), WRONG, "not the same text"),
        ("a d a", "Ada", LOOSE, RIGHT, "the same text"),
        ("0.50", "0.5", Grading(EXACT), WRONG, "not the same text"),
        ("(b)", "B", CHOICE, RIGHT, "the same choice"),
        ("\\text{(B)}", "B", CHOICE, RIGHT, "the same choice"),
        ("B. because it is", "B", CHOICE, RIGHT, "the same choice"),
        ("C", "B", CHOICE, WRONG, "C is not B"),
        ("Banana", "B", CHOICE, UNGRADABLE, "none of the choices"),
        ("F", "B", CHOICE, UNGRADABLE, "none of the choices ABCDE"),
        ("B", "42", CHOICE, UNGRADABLE, "the reference 42 is none of the choices"),
    ],
)
def test_each_method_grades_with_a_reason(
    answer: str, reference: str, grading: Grading, expected: Grade, reason: str
) -> None:
    mark = mark_of(answer, reference, grading)
    assert mark is not None
    assert mark.grade is expected
    assert reason in mark.reason


def test_a_pattern_has_to_match_the_whole_answer() -> None:
    pattern = Grading(GradingMethod.REGEX, pattern="(?i)4|four")
    assert [mark_of(a, None, pattern) for a in ("4", " FOUR ", "44")] == [
        Mark(RIGHT, "matches the pattern (?i)4|four"),
        Mark(RIGHT, "matches the pattern (?i)4|four"),
        Mark(WRONG, "does not match the pattern (?i)4|four"),
    ]


def test_a_reference_may_be_the_pattern() -> None:
    by_reference = Grading(GradingMethod.REGEX)
    assert mark_of("12 cm", "1[0-9] cm", by_reference) == Mark(
        RIGHT, "matches the reference 1[0-9] cm"
    )
    broken = mark_of("12 cm", "(", by_reference)
    assert broken is not None
    assert broken.grade is UNGRADABLE


def test_a_catastrophic_pattern_takes_no_time() -> None:
    pattern = Grading(GradingMethod.REGEX, pattern="(a*)*(a*)*(a|aa)+b")
    started = time.monotonic()
    mark = mark_of("a" * 200_000, None, pattern)
    assert mark is not None
    assert mark.grade is WRONG
    # Of a backtracking engine the first 40 characters would outlast the test's own limit.
    assert time.monotonic() - started < 60


def test_an_answer_without_anything_to_grade_by_has_no_mark() -> None:
    assert mark_of("4", None, Grading()) is None


def test_an_answer_that_was_not_compared_in_time_has_no_mark() -> None:
    assert mark_of("x+1", "1+x", Grading(), algebra=None) is None


@pytest.mark.parametrize("finding", list(Finding))
@pytest.mark.parametrize("method", [GradingMethod.EQUIVALENCE, GradingMethod.NUMERIC])
def test_every_finding_has_a_grade_and_a_reason(finding: Finding, method: GradingMethod) -> None:
    mark = mark_of("x+1", "y+1", Grading(method), algebra=finding)
    assert mark is not None
    assert mark.reason
    assert (mark.grade is RIGHT) is finding.is_same


def test_a_text_gives_its_answer_as_a_branch_does_or_is_one_line() -> None:
    assert final_answer("We add.\n#### 12") == "12"
    assert final_answer("So \\boxed{x+1} it is.") == "x+1"
    assert final_answer("  12 apples\n") == "12 apples"
    assert final_answer("I tried.\nIt is hard.") is None
    assert final_answer(" \n ") is None
