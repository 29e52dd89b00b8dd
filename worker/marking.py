"""Grades the submissions of a batch: against references from the start, else against our answers.

Theory of operation: each problem is a coroutine that goes through its submissions in order and
names what it must have compared. What takes a process is asked for a few at a time, for votes wait
in the same pool. A grade is stored as soon as it is known; the answer of a problem is held back
until its submissions are graded, so that a problem that is answered is graded too. When time is up
the rest is ungradable. Grades that a killed worker did not store are made again by the next one.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial

from db.claims import ClaimedProblem
from db.problems import ProblemAnswer
from db.submissions import SubmissionGrade, UngradedSubmission
from scheduler.core.grading import Grade
from worker.answers import extract_answer
from worker.comparison import Finding, Pair
from worker.equivalence import Equivalence
from worker.grading import Mark, final_answer, grade
from worker.outbox import Outbox

Steps = Generator[Pair, Finding | None, None]

_MAX_ASKED = 2
"""Comparisons of submissions that the pool has at a time."""

_MAX_HUNG = 3
"""Submissions of one problem whose comparison may be killed before the rest is not compared."""

_OUT_OF_TIME = Mark(Grade.UNGRADABLE, "the deadline came before the grade")
_NO_ANSWER = Mark(Grade.UNGRADABLE, "no final answer found")
_NO_YARDSTICK = Mark(
    Grade.UNGRADABLE, "there is no reference, and we found no answer to grade it against"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """The grading pool's finding on a submission."""

    problem_id: int
    pair: Pair
    finding: Finding


@dataclass(slots=True, eq=False)
class _Marking:
    """One problem whose submissions are being graded.

    Attributes:
        pair: What has to be compared next.
        num_hung: Comparisons that were killed.
        answer: Ours, held back until the grades are there.
    """

    problem: ClaimedProblem
    steps: Steps | None = None
    pair: Pair | None = None
    is_asked: bool = False
    is_done: bool = False
    num_hung: int = 0
    answer: ProblemAnswer | None = None
    grades: list[SubmissionGrade] = field(default_factory=list)

    def begin(self, reference: str | None, confidence: float | None) -> None:
        """Start to grade, against our answer when there is a confidence."""
        self.steps = self._grade_all(reference, confidence)
        self.advance(None)

    def advance(self, finding: Finding | None) -> None:
        """Go on to the next pair with what was found on this one; None when time is up."""
        assert self.steps is not None
        self.num_hung += finding is Finding.TIMED_OUT
        try:
            self.pair = self.steps.send(finding)
        except StopIteration:
            self.pair, self.is_done = None, True

    def _grade_all(self, reference: str | None, confidence: float | None) -> Steps:
        name = "the reference" if confidence is None else "our answer"
        for submission in self.problem.submissions:
            answer = _answer_of(submission)
            if answer is None:
                mark = _NO_ANSWER
            elif reference is None and self.problem.grading.needs_reference:
                mark = _NO_YARDSTICK
            else:
                found = yield from grade(answer, reference, self.problem.grading, name=name)
                mark = found or _OUT_OF_TIME
            self.grades.append(
                SubmissionGrade(
                    problem_position=self.problem.position,
                    position=submission.position,
                    answer=answer,
                    grade=mark.grade,
                    reason=mark.reason,
                    confidence=confidence,
                )
            )


def _answer_of(submission: UngradedSubmission) -> str | None:
    if submission.answer is None:
        return final_answer(submission.text or "")
    return extract_answer(submission.answer) or submission.answer.strip() or None


class Marker:
    """Grades submissions on the way of a batch's results to the outbox. Used by one thread.

    Args:
        tell: Takes findings from the threads of the pool; they are to come back to `judge`.
    """

    def __init__(
        self,
        problems: Iterable[ClaimedProblem],
        *,
        equivalence: Equivalence,
        outbox: Outbox,
        tell: Callable[[Compared], None],
    ) -> None:
        self._markings = {p.id: _Marking(p) for p in problems if p.submissions}
        self._equivalence = equivalence
        self._outbox = outbox
        self._tell = tell
        self._waiting: deque[_Marking] = deque()
        self._num_asked = 0
        self._is_out_of_time = False

    @property
    def is_open(self) -> bool:
        """Whether answers are held back."""
        return any(marking.answer is not None for marking in self._markings.values())

    def begin(self) -> None:
        """Start with the problems that need no answer of ours."""
        for marking in tuple(self._markings.values()):
            problem = marking.problem
            if problem.reference_answer is not None or not problem.grading.needs_reference:
                marking.begin(problem.reference_answer, None)
                self._go_on(marking)

    def pass_on(self, answer: ProblemAnswer) -> None:
        """Put the answer of a problem into the outbox, once its submissions are graded."""
        marking = self._markings.get(answer.problem_id)
        if marking is None:
            self._outbox.answers.append(answer)
            return
        marking.answer = answer
        if marking.steps is None:
            marking.begin(answer.answer, answer.vote_share)
        self._go_on(marking)

    def judge(self, compared: Compared) -> None:
        """Take what the pool found."""
        self._num_asked -= 1
        marking = self._markings.get(compared.problem_id)
        if marking is not None and marking.is_asked and marking.pair == compared.pair:
            marking.is_asked = False
            marking.advance(compared.finding)
            self._go_on(marking)
        self._ask()

    def give_up(self) -> None:
        """Time is up: what is not graded is ungradable."""
        self._is_out_of_time = True
        for marking in tuple(self._markings.values()):
            if marking.steps is not None:
                self._go_on(marking)

    def _go_on(self, marking: _Marking) -> None:
        """Grade as far as it goes without waiting."""
        while marking.pair is not None:
            finding = self._equivalence.known(marking.pair)
            if finding is None and marking.num_hung >= _MAX_HUNG:
                finding = Finding.NOT_TRIED
            if finding is None and not self._is_out_of_time:
                break
            marking.advance(finding)
        self._outbox.grades += marking.grades
        marking.grades = []
        if marking.is_done and marking.answer is not None:
            del self._markings[marking.problem.id]
            self._outbox.answers.append(marking.answer)
        elif marking.pair is not None and not marking.is_asked and marking not in self._waiting:
            self._waiting.append(marking)
            self._ask()

    def _ask(self) -> None:
        while self._waiting and self._num_asked < _MAX_ASKED:
            marking = self._waiting.popleft()
            if marking.pair is None:
                continue
            problem_id, pair = marking.problem.id, marking.pair
            marking.is_asked = True
            self._num_asked += 1
            self._equivalence.compare(pair, partial(_report, self._tell, problem_id, pair))


def _report(
    tell: Callable[[Compared], None], problem_id: int, pair: Pair, finding: Finding
) -> None:
    tell(Compared(problem_id, pair, finding))
