"""The vote of one problem: classes of equivalent answers and the branches that chose them.

Theory of operation: `classify` is a coroutine that names the pairs of answers it must have compared
and is sent each verdict, so the ballot knows nothing of processes and never waits. Branches of a
problem are classified one after the other in finish order, which numbers classes by their first
finisher; the tie rule of `scheduler.core.stopping` relies on that.
"""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.stopping import Vote, plurality
from worker.equivalence import normalize

Pair: TypeAlias = tuple[str, str]
"""Two answers to compare."""


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Equivalent answers.

    Attributes:
        number: Position by first finisher.
        answer: As the first finisher wrote it.
        is_correct: None without a reference answer, or when the deadline came before the grade; a
            comparison that hung or crashed counts as different.
    """

    number: int
    answer: str
    is_correct: bool | None


class Ballot:
    """Votes of one problem, in finish order.

    Args:
        reference: The reference answer as submitted, to grade each class against.
    """

    def __init__(self, reference: str | None) -> None:
        self._reference = reference
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

    def classify(self, answer: str) -> Generator[Pair, bool | None, AnswerClass]:
        """Find or make the class of an answer.

        Yields pairs to compare and is sent whether they are equivalent; None, when that is not
        known in time, counts as different and leaves a grade open.
        """
        key = normalize(answer)
        if (seen := self._spellings.get(key)) is not None:
            return seen
        for known in tuple(self._classes.values()):
            if (yield answer, known.answer):
                self._spellings[key] = known
                return known
        is_correct = None if self._reference is None else (yield answer, self._reference)
        number = max(self._classes, default=-1) + 1
        made = AnswerClass(number, answer, is_correct)
        self._classes[number] = self._spellings[key] = made
        return made
