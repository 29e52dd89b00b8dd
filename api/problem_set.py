"""Reads and checks the problems of a submission, one at a time.

A set is read once, and checked on its way into the store. JSON Lines stay in their file all the
while, so memory grows with the ids and not with the prompts.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from api.errors import ApiError, invalid, validation_error
from api.problem_deadlines import ProblemDeadlines
from api.problem_source import Place, ProblemSource
from api.schemas.submission import ProblemIn
from api.settings import ApiSettings


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """A checked set.

    Attributes:
        sha256: Digest of the problems in order, the same for every form in which the set can be
            sent.
        deadlines: Those that its problems have of their own.
    """

    source: ProblemSource
    num_problems: int
    num_prompt_chars: int
    max_prompt_chars: int
    sha256: str
    deadlines: ProblemDeadlines
    num_submissions: int = 0

    def __iter__(self) -> Iterator[ProblemIn]:
        """Yield the problems, each with its id."""
        for _, problem in self.placed():
            yield problem

    def placed(self) -> Iterator[tuple[Place, ProblemIn]]:
        """Yield the problems with their places."""
        for place, raw in self.source:
            yield place, _problem(place, raw)


class Reading:
    """A set that is checked while it is read. Iterate to the end, then ask for `checked`.

    Args:
        check_also: Raises for what only the options of the set forbid.
    """

    def __init__(
        self,
        source: ProblemSource,
        settings: ApiSettings,
        check_also: Callable[[Place, ProblemIn], None] | None = None,
    ) -> None:
        self._source = source
        self._settings = settings
        self._check_also = check_also
        self.deadlines = ProblemDeadlines(settings)
        self._checked: ProblemSet | None = None

    def __iter__(self) -> Iterator[ProblemIn]:
        """Yield each problem once it is checked.

        Raises:
            ApiError: 400 for the first bad problem, with its line or index; 413 for too many.
        """
        settings = self._settings
        seen: dict[str, Place] = {}
        digest = hashlib.sha256()
        num_prompt_chars = max_prompt_chars = num_submissions = 0
        for place, raw in self._source:
            if len(seen) == settings.max_problems:
                raise ApiError(
                    413,
                    "too_many_problems",
                    f"The set has more than {settings.max_problems:,} problems. Split it into"
                    " several jobs.",
                    param="problems",
                )
            problem = _problem(place, raw)
            _check_lengths(place, problem, settings)
            if problem.submissions:
                _check_submissions(place, problem, settings)
            if self._check_also is not None:
                self._check_also(place, problem)
            key = problem.id or ""
            if key in seen:
                raise _duplicate(place, key, seen[key])
            seen[key] = place
            self.deadlines.add(place, problem)
            num_submissions += len(problem.submissions)
            num_prompt_chars += len(problem.prompt)
            max_prompt_chars = max(max_prompt_chars, len(problem.prompt))
            digest.update(orjson.dumps([key, problem.prompt, problem.reference_answer]))
            if problem.grading or problem.submissions:
                digest.update(problem.model_dump_json(include={"grading", "submissions"}).encode())
            if problem.deadline:
                digest.update(problem.deadline.encode())
            yield problem
        if not seen:
            raise invalid(
                "problems",
                "The problem set is empty. Send at least one problem.",
                code="empty_problem_set",
            )
        self._checked = ProblemSet(
            self._source,
            len(seen),
            num_prompt_chars,
            max_prompt_chars,
            digest.hexdigest(),
            self.deadlines,
            num_submissions,
        )

    @property
    def checked(self) -> ProblemSet:
        """The set, once it was read to the end."""
        assert self._checked is not None
        return self._checked


def check(source: ProblemSource, settings: ApiSettings) -> ProblemSet:
    """Check every problem of a set that is not to be stored.

    Raises:
        ApiError: 400 for the first bad problem, with its line or index; 413 for too many.
    """
    reading = Reading(source, settings)
    deque(reading, maxlen=0)
    return reading.checked


def _duplicate(place: Place, key: str, first: Place) -> ApiError:
    where = f"problems[{first.index}]" if first.line is None else f"line {first.line}"
    return place.error(
        "duplicate_id",
        "id",
        f"the id '{key}' is already that of {where}. Give each problem its own id.",
    )


def _problem(place: Place, raw: Any) -> ProblemIn:
    """The problem at a place, with the id that it gets by default."""
    try:
        problem = ProblemIn.model_validate(raw)
    except ValidationError as error:
        if not isinstance(raw, dict):
            raise place.error(
                "invalid_problem",
                "prompt",
                'a problem is an object such as {"id": "p-1", "prompt": "..."}.',
            ) from None
        refusal = validation_error(error.errors(include_url=False))
        code = refusal.code or "invalid_value"
        raise place.error(code, refusal.param or "prompt", refusal.message) from None
    if problem.id is None:
        problem.id = f"problem-{place.index + 1}"
    for number, submission in enumerate(problem.submissions, start=1):
        if submission.id is None:
            submission.id = f"submission-{number}"
    return problem


def _check_lengths(place: Place, problem: ProblemIn, settings: ApiSettings) -> None:
    too_long = {
        "id_too_long": (problem.id, settings.max_id_chars),
        "prompt_too_long": (problem.prompt, settings.max_prompt_chars),
        "reference_answer_too_long": (problem.reference_answer, settings.max_reference_chars),
    }
    for code, (text, limit) in too_long.items():
        if text is not None and len(text) > limit:
            field = code.removesuffix("_too_long")
            raise place.error(
                code,
                field,
                f"the {field} has {len(text):,} characters; at most {limit:,} are allowed.",
            )


def _check_submissions(place: Place, problem: ProblemIn, settings: ApiSettings) -> None:
    field = "submissions"
    if len(problem.submissions) > settings.max_submissions:
        raise place.error(
            "too_many_submissions",
            field,
            f"the problem has {len(problem.submissions):,} submissions; at most"
            f" {settings.max_submissions:,} are allowed. Give the problem once more under another"
            " id with the rest.",
        )
    num_chars = sum(
        len(part)
        for submission in problem.submissions
        for part in (submission.id, submission.answer, submission.text)
        if part is not None
    )
    if num_chars > settings.max_submission_chars:
        raise place.error(
            "submissions_too_long",
            field,
            f"the submissions have {num_chars:,} characters; at most"
            f" {settings.max_submission_chars:,} are allowed for one problem.",
        )
    ids = [submission.id for submission in problem.submissions]
    if len(set(ids)) < len(ids):
        twice = next(found for found in ids if ids.count(found) > 1)
        raise place.error(
            "duplicate_id", field, f"two submissions have the id '{twice}'. Give each its own."
        )
