"""Deadlines of single problems: those of a submission that say the same are a part of their job."""

from collections import Counter
from datetime import datetime

from api.deadlines import check_form, deadline_at, show
from api.errors import ApiError
from api.problem_source import Place
from api.schemas.submission import ProblemIn
from api.settings import ApiSettings
from db.parts import NewPart

_FIELD = "deadline"


class ProblemDeadlines:
    """The different deadlines of a set, numbered from 1 as they come, while it is read."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._numbers: dict[str, int] = {}
        self._places: list[Place] = []
        self._num_problems = Counter[int]()

    def __bool__(self) -> bool:
        """Whether any problem has a deadline of its own."""
        return bool(self._numbers)

    def add(self, place: Place, problem: ProblemIn) -> None:
        """Count the next problem of the set.

        Raises:
            ApiError: 400 for a deadline that cannot be read, or one different deadline too many.
        """
        text = problem.deadline
        if text is None:
            return
        if text not in self._numbers:
            self._meet(place, text)
        self._num_problems[self._numbers[text]] += 1

    def part_of(self, problem: ProblemIn) -> int:
        """The part that a problem of the set belongs to, 0 without a deadline of its own."""
        return 0 if problem.deadline is None else self._numbers[problem.deadline]

    def parts(self, received_at: datetime, job_due_at: datetime) -> tuple[NewPart, ...]:
        """The parts of the job, once its set was read.

        Args:
            received_at: From which durations count.

        Raises:
            ApiError: 400 for a deadline that is past, too soon, or after that of the job.
        """
        return tuple(
            NewPart(number, self._due_at(text, received_at, job_due_at), self._num_problems[number])
            for text, number in self._numbers.items()
        )

    def refuse(self, why: str) -> None:
        """Refuse any deadline of a problem.

        Raises:
            ApiError: 400 that names the first problem with one.
        """
        if self._places:
            raise self._places[0].error("invalid_value", _FIELD, why)

    def _meet(self, place: Place, text: str) -> None:
        most = self._settings.max_problem_deadlines
        if len(self._numbers) == most:
            raise place.error(
                "too_many_deadlines",
                _FIELD,
                f"the problems have more than {most} different deadlines. Round them, or split the"
                " set into several jobs.",
            )
        try:
            check_form(text, _FIELD)
        except ApiError as refusal:
            raise _placed(place, refusal) from None
        self._numbers[text] = len(self._numbers) + 1
        self._places.append(place)

    def _due_at(self, text: str, received_at: datetime, job_due_at: datetime) -> datetime:
        place = self._places[self._numbers[text] - 1]
        try:
            due_at = deadline_at(text, received_at, self._settings, _FIELD)
        except ApiError as refusal:
            raise _placed(place, refusal) from None
        if due_at > job_due_at:
            raise place.error(
                "invalid_deadline",
                _FIELD,
                f"the deadline {text} is after that of the job, {show(job_due_at)}. Give an earlier"
                " one, or leave it out.",
            )
        return due_at


def _placed(place: Place, refusal: ApiError) -> ApiError:
    """A refusal with the place of the problem."""
    message = refusal.message[0].lower() + refusal.message[1:]
    return place.error(refusal.code or "invalid_deadline", _FIELD, message)
