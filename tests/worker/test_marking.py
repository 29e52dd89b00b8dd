"""Submissions are graded on their way, and what hangs or comes too late is ungradable."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue

import pytest

from db.claims import ClaimedBatch, ClaimedProblem
from db.session import SessionFactory
from db.submissions import UngradedSubmission
from scheduler.core.branch_options import BranchOptions
from scheduler.core.states import ProblemState
from tests.factories import NOW, plan, problem_answer
from worker.equivalence import Equivalence
from worker.marking import Compared, Marker
from worker.outbox import Outbox
from worker.spans import BatchSpans

HOSTILE = "9^{9^{9^{9}}}"


@pytest.fixture
def equivalence() -> Iterator[Equivalence]:
    made = Equivalence(num_processes=1, limit_s=30.0)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Equivalence]:
    """Gives up soon, for what hangs anyway."""
    made = Equivalence(num_processes=1, limit_s=1.0)
    yield made
    made.close()


class Desk:
    """A marker of one problem with its outbox and inbox."""

    def __init__(
        self,
        sessions: SessionFactory,
        equivalence: Equivalence,
        *answers: str,
        reference: str | None = "x+1",
    ) -> None:
        problem = ClaimedProblem(
            id=7,
            key="p",
            prompt="?",
            reference_answer=reference,
            finished=(),
            submissions=tuple(
                UngradedSubmission(position, answer, None)
                for position, answer in enumerate(answers)
            ),
        )
        batch = ClaimedBatch(
            id=1, epoch=1, job_id="j", deadline_at=NOW + timedelta(hours=1), plan=plan(),
            temperature=1.0, top_p=1.0, options=BranchOptions(), problems=(problem,),
        )  # fmt: skip
        self.inbox: SimpleQueue[Compared] = SimpleQueue()
        self.outbox = Outbox(batch, sessions, threading.Event(), BatchSpans(batch))
        self.marker = Marker(
            batch.problems, equivalence=equivalence, outbox=self.outbox, tell=self.inbox.put
        )
        self.marker.begin()

    def settle(self) -> None:
        """Take findings until the answer is let go."""
        while not self.outbox.answers:
            self.marker.judge(self.inbox.get(timeout=40))

    def grades(self) -> list[str]:
        ordered = sorted(self.outbox.grades, key=lambda grade: grade.position)
        return [grade.grade for grade in ordered]


def test_an_answer_waits_for_the_grades(sessions: SessionFactory, equivalence: Equivalence) -> None:
    desk = Desk(sessions, equivalence, "x+1", "1+x", "x-1")
    assert desk.grades() == ["right"]
    desk.marker.pass_on(problem_answer(7))
    assert desk.outbox.answers == []
    assert desk.marker.is_open
    desk.settle()
    assert desk.grades() == ["right", "right", "wrong"]
    assert not desk.marker.is_open


def test_what_hangs_is_ungradable_and_soon_no_more_is_tried(
    sessions: SessionFactory, hasty: Equivalence
) -> None:
    hostile = [f"{HOSTILE}+{number}" for number in range(6)]
    desk = Desk(sessions, hasty, *hostile, "x + 1")
    desk.marker.pass_on(problem_answer(7))
    desk.settle()
    assert desk.grades() == ["ungradable"] * 6 + ["right"]
    reasons = [grade.reason for grade in desk.outbox.grades]
    assert ["took too long" in r and "others" not in r for r in reasons[:6]] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_at_the_deadline_the_rest_is_ungradable_and_the_answer_goes(
    sessions: SessionFactory, hasty: Equivalence
) -> None:
    desk = Desk(sessions, hasty, HOSTILE, "x+1", "1+x")
    desk.marker.pass_on(problem_answer(7))
    desk.marker.give_up()
    assert desk.grades() == ["ungradable", "right", "ungradable"]
    assert "deadline" in desk.outbox.grades[0].reason
    assert [answer.problem_id for answer in desk.outbox.answers] == [7]
    # The finding that comes after all of this changes nothing.
    desk.marker.judge(desk.inbox.get(timeout=40))
    assert len(desk.outbox.grades) == 3


def test_without_a_reference_our_answer_is_the_yardstick_or_there_is_none(
    sessions: SessionFactory, equivalence: Equivalence
) -> None:
    desk = Desk(sessions, equivalence, "7", "8", reference=None)
    assert desk.outbox.grades == []
    desk.marker.pass_on(problem_answer(7, vote_share=0.75))
    assert desk.grades() == ["right", "wrong"]
    assert {grade.confidence for grade in desk.outbox.grades} == {0.75}
    failed = Desk(sessions, equivalence, "7", reference=None)
    failed.marker.pass_on(
        problem_answer(7, state=ProblemState.FAILED, answer=None, vote_share=None, error="no")
    )
    assert failed.grades() == ["ungradable"]
    assert len(failed.outbox.answers) == 1
