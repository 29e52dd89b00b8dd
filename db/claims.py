"""Claims: one worker takes a batch, and gets its problems with the branches kept from before."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from db import events
from db.branches import COUNTED_REASONS
from db.jobs import start_job
from db.learning import learned_profiles
from db.models import Batch, Branch, Job, Problem, Worker
from db.parts import batch_deadline
from db.submissions import UngradedSubmission, ungraded_submissions
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.branch_options import BranchOptions
from scheduler.core.event_kinds import EventKind
from scheduler.core.grading import BY_EQUIVALENCE, Grading
from scheduler.core.plan import Plan
from scheduler.core.shrinkage import expected_answers
from scheduler.core.states import (
    BATCH_TRANSITIONS,
    LIVE,
    BatchState,
    ProblemState,
    sources_of,
)


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
    """One problem to solve.

    Attributes:
        finished: In the order in which the branches finished.
        turns: (role, content) of the chat that the prompt was made from; None for a plain one.
        solve: False when only the submissions are to be graded.
        submissions: Those that have no grade yet.
    """

    id: int
    key: str
    prompt: str
    reference_answer: str | None
    finished: tuple[FinishedBranch, ...]
    position: int = 0
    turns: tuple[tuple[str, str], ...] | None = None
    grading: Grading = BY_EQUIVALENCE
    solve: bool = True
    submissions: tuple[UngradedSubmission, ...] = ()

    @property
    def is_graded(self) -> bool:
        """Whether our answer is to be right or wrong."""
        has_yardstick = self.reference_answer is not None or not self.grading.needs_reference
        return self.solve and has_yardstick


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """A batch and the right to write its results, as long as the epoch is the stored one.

    Attributes:
        answers: What was learned of its job's model and task family; None when nothing was.
        traceparent: Of the request that made the job; None when that was not traced.
    """

    id: int
    epoch: int
    job_id: str
    deadline_at: datetime
    plan: Plan
    temperature: float
    top_p: float
    options: BranchOptions
    problems: tuple[ClaimedProblem, ...]
    answers: AnswerProfile | None = None
    traceparent: str | None = None


def claim_batch(
    session: Session, *, batch_id: int, owner: str, lease_s: float, now: datetime
) -> ClaimedBatch | None:
    """Take a planned batch of a live job under a new epoch; None for all but one claimant."""
    claimed = session.execute(
        update(Batch)
        .where(
            Batch.id == batch_id,
            Batch.state.in_(sources_of(BatchState.CLAIMED, BATCH_TRANSITIONS)),
            Batch.job_id == Job.id,
            Job.state.in_(LIVE),
            # A worker restarted with another model has the same queue.
            Batch.worker_name == Worker.name,
            Job.model == Worker.model,
        )
        .values(
            state=BatchState.CLAIMED,
            epoch=Batch.epoch + 1,
            claimed_at=now,
            lease_owner=owner,
            lease_expires_at=now + timedelta(seconds=lease_s),
        )
        .returning(
            Batch.epoch,
            Batch.job_id,
            Batch.worker_name,
            Batch.num_branches,
            Batch.num_speculative_tokens,
            Batch.max_tokens,
            Batch.wave_size,
            Batch.stop_gain,
            Batch.max_branches,
            batch_deadline().label("deadline_at"),
            Job.temperature,
            Job.top_p,
            Job.branch_options,
            Job.model,
            Job.family,
            Job.grading,
            Job.solve,
            Job.traceparent,
        )
        .execution_options(synchronize_session=False)
    ).first()
    if claimed is None:
        return None
    session.execute(
        update(Problem)
        .where(Problem.batch_id == batch_id, Problem.state == ProblemState.DISPATCHED)
        .values(state=ProblemState.RUNNING)
    )
    data = {"batch_id": batch_id, "worker": claimed.worker_name, "epoch": claimed.epoch}
    happened = [events.Event(claimed.job_id, EventKind.BATCH_CLAIMED, data)]
    if start_job(session, claimed.job_id, now=now):
        happened.insert(0, events.Event(claimed.job_id, EventKind.JOB_RUNNING))
    events.record_all(session, happened, now=now)
    return ClaimedBatch(
        id=batch_id,
        epoch=claimed.epoch,
        job_id=claimed.job_id,
        deadline_at=claimed.deadline_at,
        plan=Plan(
            num_branches=claimed.num_branches,
            num_speculative_tokens=claimed.num_speculative_tokens,
            max_tokens=claimed.max_tokens,
            wave_size=claimed.wave_size,
            stop_gain=claimed.stop_gain,
            max_branches=claimed.max_branches,
        ),
        temperature=claimed.temperature,
        top_p=claimed.top_p,
        options=BranchOptions.from_dict(claimed.branch_options),
        problems=_claimed_problems(session, batch_id, claimed.grading, claimed.solve),
        answers=expected_answers(claimed.model, claimed.family, learned_profiles(session)),
        traceparent=claimed.traceparent,
    )


def job_of_batch(session: Session, batch_id: int) -> str | None:
    """Id of the job that the batch is of; None when there is no such batch."""
    return session.scalar(select(Batch.job_id).where(Batch.id == batch_id))


def _turns(messages: list[dict[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    if messages is None:
        return None
    return tuple((message["role"], message["content"]) for message in messages)


def _claimed_problems(
    session: Session, batch_id: int, grading: dict[str, Any], solve: bool
) -> tuple[ClaimedProblem, ...]:
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
        .join(Problem, and_(Branch.problem_id == Problem.id, Branch.job_id == Problem.job_id))
        .where(*in_batch, Branch.finish_reason.in_(COUNTED_REASONS))
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
    submissions = ungraded_submissions(session, *in_batch)
    problems = session.execute(
        select(
            Problem.id,
            Problem.key,
            Problem.position,
            Problem.prompt,
            Problem.messages,
            Problem.reference_answer,
            Problem.grading,
        )
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
            position=row.position,
            turns=_turns(row.messages),
            grading=Grading.from_dict(row.grading or grading),
            solve=solve,
            submissions=submissions.get(row.id, ()),
        )
        for row in problems
    )
