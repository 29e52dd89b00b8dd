"""What a worker gets with a batch: its problems, and the branches that they keep from before."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.branches import FINISHED
from db.models import Branch, Problem
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.plan import Plan
from scheduler.core.states import ProblemState


@dataclass(frozen=True, slots=True)
class FinishedBranch:
    """A branch kept from an earlier batch of the problem; it must not run again."""

    branch_index: int
    answer: str | None
    vote_class: int | None
    is_correct: bool | None
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimedProblem:
    """One problem to solve. `finished` is in the order in which the branches finished."""

    id: int
    key: str
    prompt: str
    reference_answer: str | None
    finished: tuple[FinishedBranch, ...]


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """A batch and the right to write its results, as long as the epoch is the stored one.

    Attributes:
        answers: What was learned of its job's model and task family; None when nothing was.
    """

    id: int
    epoch: int
    job_id: str
    deadline_at: datetime
    plan: Plan
    temperature: float
    top_p: float
    problems: tuple[ClaimedProblem, ...]
    answers: AnswerProfile | None = None


def claimed_problems(session: Session, batch_id: int) -> tuple[ClaimedProblem, ...]:
    """Running problems of the batch in order of position, each with its finished branches."""
    in_batch = (Problem.batch_id == batch_id, Problem.state == ProblemState.RUNNING)
    kept = defaultdict[int, list[FinishedBranch]](list)
    branches = session.execute(
        select(
            Branch.problem_id,
            Branch.branch_index,
            Branch.answer,
            Branch.vote_class,
            Branch.is_correct,
            Branch.finished_at,
        )
        .join(Problem, Branch.problem_id == Problem.id)
        .where(*in_batch, Branch.finish_reason.in_(FINISHED))
        .order_by(Branch.finished_at, Branch.branch_index)
    )
    for branch in branches:
        kept[branch.problem_id].append(
            FinishedBranch(
                branch_index=branch.branch_index,
                answer=branch.answer,
                vote_class=branch.vote_class,
                is_correct=branch.is_correct,
                finished_at=branch.finished_at,
            )
        )
    problems = session.execute(
        select(Problem.id, Problem.key, Problem.prompt, Problem.reference_answer)
        .where(*in_batch)
        .order_by(Problem.position)
    )
    return tuple(
        ClaimedProblem(
            id=row.id,
            key=row.key,
            prompt=row.prompt,
            reference_answer=row.reference_answer,
            finished=tuple(kept[row.id]),
        )
        for row in problems
    )
