"""How a batch ends, and what is stored of a problem once it is closed."""

from datetime import datetime
from enum import StrEnum

from db.claims import ClaimedProblem
from db.problems import ProblemAnswer
from scheduler.core.states import ProblemState
from worker.voting import Ballot


class Outcome(StrEnum):
    """How a batch left the controller."""

    DONE = "done"
    LOST = "lost"
    RELEASED = "released"


def answered(
    problem: ClaimedProblem, ballot: Ballot, now: datetime, *, degraded: bool
) -> ProblemAnswer:
    """The winner of the votes."""
    winner = ballot.winner()
    if winner is not None:
        vote, chosen = winner
        answer, share, is_correct = chosen.answer, vote.share, chosen.is_correct
        reason = chosen.reason
    else:
        # Every branch ended without an answer: wrong, where there is something to grade by.
        answer, share = None, 0.0
        is_correct = False if problem.is_graded else None
        reason = "no branch gave a final answer" if problem.is_graded else None
    return ProblemAnswer(
        problem_id=problem.id,
        state=ProblemState.ANSWERED,
        answer=answer,
        vote_share=share,
        is_correct=is_correct,
        grade_reason=reason,
        degraded=degraded,
        num_branches_finished=ballot.num_finished,
        error=None,
        finished_at=now,
    )


def failed(problem: ClaimedProblem, error: str | None, now: datetime) -> ProblemAnswer:
    """No branch finished, and none will."""
    return ProblemAnswer(
        problem_id=problem.id,
        state=ProblemState.FAILED,
        answer=None,
        vote_share=None,
        is_correct=None,
        degraded=False,
        num_branches_finished=0,
        error=error or "the plan gave the problem no branches",
        finished_at=now,
    )
