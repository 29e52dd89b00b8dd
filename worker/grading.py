"""Grades an answer by a method, and says why.

Theory of operation: like `classify` of a ballot, `grade` is a coroutine that names the pair of
answers it must have compared and is sent what was found, so it knows nothing of processes and never
waits. Only meanings need one: the other methods decide in place. A pattern of a client cannot hang,
for RE2 takes time linear in the text, and refuses what would make it otherwise.
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from scheduler.core.grading import MAX_PATTERN_BYTES, Grade, Grading, GradingMethod
from worker.answers import extract_answer
from worker.comparison import Finding, Pair, Tolerance
from worker.spelling import MAX_ANSWER_CHARS, normalize

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Mark:
    """A grade and why it was given, in a short sentence."""

    grade: Grade
    reason: str


Steps = Generator[Pair, Finding | None, Mark | None]


def final_answer(text: str) -> str | None:
    """The answer in someone's text: as branches mark it, else the text when it is one line."""
    found = extract_answer(text)
    if found is None:
        stripped = text.strip()
        found = stripped if stripped and "\n" not in stripped else None
    return found


def grade(
    answer: str, reference: str | None, grading: Grading, *, name: str = "the reference"
) -> Steps:
    """Grade an answer.

    Yields a pair to compare where that takes algebra, and is sent what was found.

    Args:
        name: What the reference is called in reasons.

    Returns:
        None with nothing to grade by, or when None was sent: it was not known in time.
    """
    if grading.pattern is not None:
        return _match(answer, grading.pattern, "the pattern")
    if reference is None:
        return None
    shown = f"{name} {_shown(reference)}"
    if grading.method is GradingMethod.REGEX:
        return _match(answer, reference, name)
    if grading.method is GradingMethod.EXACT:
        is_right = _spelled(answer, grading) == _spelled(reference, grading)
        return _mark(is_right, f"the same text as {shown}", f"not the same text as {shown}")
    if grading.method is GradingMethod.CHOICE:
        return _choose(answer, reference, grading.choices, shown)
    tolerance = None
    if grading.method is GradingMethod.NUMERIC:
        tolerance = Tolerance(grading.absolute, grading.relative)
    finding = yield Pair(answer, reference, tolerance)
    return None if finding is None else _found(finding, shown, tolerance)


def _found(finding: Finding, shown: str, tolerance: Tolerance | None) -> Mark:
    match finding:
        case Finding.SAME_TEXT:
            return Mark(Grade.RIGHT, f"the same as {shown}")
        case Finding.SAME_NUMBER if tolerance is not None:
            return Mark(Grade.RIGHT, f"within the tolerance of {shown}")
        case Finding.SAME_NUMBER:
            return Mark(Grade.RIGHT, f"equivalent to {shown} as a number")
        case Finding.SAME_VALUE:
            return Mark(Grade.RIGHT, f"equivalent to {shown} by algebra")
        case Finding.DIFFERENT if tolerance is not None:
            return Mark(Grade.WRONG, f"further from {shown} than the tolerance")
        case Finding.DIFFERENT:
            return Mark(Grade.WRONG, f"not equivalent to {shown}")
        case Finding.NO_NUMBER:
            return Mark(Grade.UNGRADABLE, f"cannot be read as a number beside {shown}")
        case Finding.TOO_LONG:
            limit = f"more than {MAX_ANSWER_CHARS} characters are compared as text only"
            return Mark(Grade.UNGRADABLE, f"not the same text as {shown}, and {limit}")
        case Finding.TIMED_OUT:
            return Mark(Grade.UNGRADABLE, f"comparing it with {shown} took too long")
        case Finding.NOT_TRIED:
            why = "others of this problem took too long to compare"
            return Mark(Grade.UNGRADABLE, f"not compared with {shown}: {why}")
        case Finding.FAILED:
            return Mark(Grade.UNGRADABLE, f"it could not be compared with {shown}")


def _mark(is_right: bool, right: str, wrong: str) -> Mark:
    return Mark(Grade.RIGHT, right) if is_right else Mark(Grade.WRONG, wrong)


def _spelled(text: str, grading: Grading) -> str:
    """The text under the policy of case and space; space at the ends never counts."""
    text = "".join(text.split()) if grading.ignore_space else text.strip()
    return text.casefold() if grading.ignore_case else text


def _choose(answer: str, reference: str, choices: str, shown: str) -> Mark:
    chosen, right = _choice(answer, choices), _choice(reference, choices)
    if right is None:
        return Mark(Grade.UNGRADABLE, f"{shown} is none of the choices {choices}")
    if chosen is None:
        return Mark(Grade.UNGRADABLE, f"names none of the choices {choices}")
    return _mark(chosen == right, f"the same choice as {shown}", f"{chosen} is not {right}")


@lru_cache(maxsize=65536)
def _choice(answer: str, choices: str) -> str | None:
    r"""The letter that an answer such as `B`, `(b)`, `\text{(B)}` or `B. because` chooses."""
    found = _expression(_CHOICE.format(choices=f"[{choices}{choices.lower()}]")).fullmatch(
        normalize(answer) if len(answer) <= MAX_ANSWER_CHARS else ""
    )
    return None if found is None else str(found[1]).upper()


_CHOICE = r"(?s)(?:\\(?:text|textbf|mathrm|mathbf)\{{)?[(\[]?({choices})(?:[)\].:]+.*)?\}}?"


def _match(answer: str, pattern: str, name: str) -> Mark:
    try:
        is_match = _expression(pattern).fullmatch(answer.strip()) is not None
    except re2.error:
        return Mark(Grade.UNGRADABLE, f"{name} is no valid regular expression")
    shown = f"{name} {_shown(pattern)}"
    return _mark(is_match, f"matches {shown}", f"does not match {shown}")


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_BYTES
    return re2.compile(pattern, options)


def _shown(text: str) -> str:
    """At most so much of a text as a sentence bears, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}..."
