"""The vote of one problem: classes of equivalent answers and the branches that chose them.

Theory of operation: `classify` is a coroutine that names the pairs of answers it must have compared
and is sent each verdict, so the ballot knows nothing of processes and never waits. Branches of a
problem are classified one after the other in finish order, which numbers classes by their first
finisher; the tie rule of `scheduler.core.stopping` relies on that.
"""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

from scheduler.core.grading import BY_EQUIVALENCE, Grade, Grading
from scheduler.core.stopping import Vote, plurality
from worker.comparison import Finding, Pair
from worker.grading import grade
from worker.spelling import normalize


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Equivalent answers.

    Attributes:
        number: Position by first finisher.
        answer: As the first finisher wrote it.
        is_correct: None without a grade: with nothing to grade by, or when the deadline came before
            it. A comparison that hung or crashed makes a wrong answer.
        reason: Why it is right or wrong.
    """

    number: int
    answer: str
    is_correct: bool | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading pool's finding on two answers of a problem."""

    problem_id: int
    pair: Pair
    finding: Finding


class Ballot:
    """Votes of one problem, in finish order.

    Args:
        reference: The reference answer as submitted, to grade each class against.
        grading: How.
    """

    def __init__(self, reference: str | None, grading: Grading = BY_EQUIVALENCE) -> None:
        self._reference = reference
        self._grading = grading
        self._votes: list[int | None] = []
        self._classes: dict[int, AnswerClass] = {}
        self._spellings: dict[str, AnswerClass] = {}

    @property
    def num_finished(self) -> int:
        """Branches that finished, with an answer or without."""
        return len(self._votes)

    def restore(self, answer: str | None, vote_class: int | None, is_correct: bool | None) -> None:
        """Count a branch that an earlier batch classified. Call in finish order, before others."""
        if answer is not None and vote_class is not None:
            first = AnswerClass(vote_class, answer, is_correct)
            self._spellings[normalize(answer)] = self._classes.setdefault(vote_class, first)
        self.vote(vote_class)

    def vote(self, vote_class: int | None) -> None:
        """Count the next branch; None when it gave no answer."""
        self._votes.append(vote_class)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Votes per class, in the order of their first vote."""
        return tuple(Counter(vote for vote in self._votes if vote is not None).values())

    @property
    def num_unanswered(self) -> int:
        """Branches that finished without an answer."""
        return self._votes.count(None)

    def winner(self) -> tuple[Vote, AnswerClass] | None:
        """The plurality among the branches that finished; None when none gave an answer."""
        vote = plurality(self._votes)
        return None if vote is None else (vote, self._classes[vote.vote_class])

    def classify(self, answer: str) -> Generator[Pair, Finding | None, AnswerClass]:
        """Find or make the class of an answer.

        Yields pairs to compare and is sent what was found; None, when that is not known in time,
        counts as different and leaves a grade open.
        """
        key = normalize(answer)
        if (seen := self._spellings.get(key)) is not None:
            return seen
        for known in tuple(self._classes.values()):
            finding = yield Pair(answer, known.answer)
            if finding is not None and finding.is_same:
                self._spellings[key] = known
                return known
        mark = yield from grade(answer, self._reference, self._grading)
        number = max(self._classes, default=-1) + 1
        is_correct = None if mark is None else mark.grade is Grade.RIGHT
        made = AnswerClass(number, answer, is_correct, None if mark is None else mark.reason)
        self._classes[number] = self._spellings[key] = made
        return made
