"""Problems: loaded with their job, answered by workers, closed at the deadline."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, text, update
from sqlalchemy.orm import Session

from db.leases import HELD_BATCH
from db.models import Problem
from db.records import records
from scheduler.core.states import PROBLEM_TRANSITIONS, ProblemState, sources_of


@dataclass(frozen=True, slots=True)
class NewProblem:
    """One problem of a submission.

    Attributes:
        key: The client's id, unique within the job.
        messages: The chat that the prompt was made from, as JSON; None for a plain prompt.
        grading: Instead of the job's, as `Grading.to_dict` gives it.
        part: Of the job; 0 for problems that are due with it.
    """

    key: str
    prompt: str
    reference_answer: str | None = None
    messages: str | None = None
    grading: dict[str, Any] | None = None
    part: int = 0


@dataclass(frozen=True, slots=True)
class ProblemAnswer:
    """A problem's outcome.

    Attributes:
        state: `answered` or `failed`.
        answer: None on an answered problem whose branches all ended without an answer.
        vote_share: Votes of the answer over branches finished; None unless answered.
        is_correct: None without a reference answer.
        grade_reason: Why it is right or wrong; None with neither.
        degraded: The deadline, not the plan, ended it.
        error: What went wrong; set when failed.
    """

    problem_id: int
    state: ProblemState
    answer: str | None
    vote_share: float | None
    is_correct: bool | None
    degraded: bool
    num_branches_finished: int
    error: str | None
    finished_at: datetime
    grade_reason: str | None = None


def insert_problems(session: Session, job_id: str, problems: Iterable[NewProblem]) -> int:
    """Stream problems into the job in their order; returns how many, memory is bounded."""
    placed = ((job_id, position, problem) for position, problem in enumerate(problems))
    return insert_placed_problems(session, placed)


def insert_placed_problems(session: Session, placed: Iterable[tuple[str, int, NewProblem]]) -> int:
    """Stream problems of several jobs, each with its job and position; returns how many.

    Their jobs may be stored after them, in the same transaction.
    """
    session.execute(_DEFER_JOBS)
    connection = session.connection().connection.driver_connection
    assert connection is not None
    num_problems = 0
    with connection.cursor() as cursor, cursor.copy(_COPY_PROBLEMS) as copy:
        for job_id, position, problem in placed:
            copy.write_row(
                (
                    job_id,
                    problem.key,
                    position,
                    problem.prompt,
                    problem.messages,
                    problem.reference_answer,
                    None if problem.grading is None else json.dumps(problem.grading),
                    ProblemState.PENDING.value,
                    problem.part,
                )
            )
            num_problems += 1
    return num_problems


def delete_problems(session: Session, job_id: str) -> None:
    """Take out problems, with their submissions, that were stored for a job that is not to be."""
    session.execute(delete(Problem).where(Problem.job_id == job_id))


_DEFER_JOBS = text("SET CONSTRAINTS fk_problems_job_id DEFERRED")

_COPY_PROBLEMS = """
COPY problems (
    job_id, key, position, prompt, messages, reference_answer, grading, state, part
) FROM STDIN
"""


def answer_problems(
    session: Session, *, batch_id: int, epoch: int, answers: Sequence[ProblemAnswer]
) -> bool:
    """Close running problems of a held batch; writes nothing and is False when it is lost."""
    values = {"batch_id": batch_id, "epoch": epoch, "answers": records(answers)}
    return session.connection().execute(_ANSWER, values).first() is not None


_OUTCOME = tuple(field.name for field in fields(ProblemAnswer) if field.name != "problem_id")

_ANSWER = text(f"""
WITH batch AS ({HELD_BATCH}), answered AS (
    UPDATE problems
    SET {", ".join(f"{name} = new.{name}" for name in _OUTCOME)}
    FROM batch
    CROSS JOIN json_array_elements(CAST(:answers AS json)) AS sent
    CROSS JOIN json_populate_record(CAST(NULL AS problems), sent) AS new
    WHERE problems.id = CAST(sent ->> 'problem_id' AS bigint)
        AND problems.batch_id = batch.id
        AND problems.state = 'running'
)
SELECT FROM batch
""")


def count_losses(session: Session, batch_ids: Sequence[int]) -> None:
    """Note that the workers that had claimed these batches, whose rows are locked, are gone."""
    session.execute(
        update(Problem)
        .where(
            Problem.batch_id.in_(batch_ids),
            Problem.state == ProblemState.RUNNING,
        )
        .values(num_losses=Problem.num_losses + 1)
    )


def release_problems(session: Session, batch_ids: Sequence[int]) -> int:
    """Return open problems of closed batches, whose rows are locked, to pending; says how many."""
    open_ids = list(
        session.scalars(
            select(Problem.id)
            .where(
                Problem.batch_id.in_(batch_ids),
                Problem.state.in_(sources_of(ProblemState.PENDING, PROBLEM_TRANSITIONS)),
            )
            .order_by(Problem.id)
            .with_for_update(key_share=True)
        )
    )
    session.execute(
        update(Problem)
        .where(
            Problem.id.in_(open_ids),
            Problem.state.in_(sources_of(ProblemState.PENDING, PROBLEM_TRANSITIONS)),
        )
        .values(state=ProblemState.PENDING, batch_id=None, dispatched_at=None)
    )
    return len(open_ids)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the problems of a batch or a job ended.

    Attributes:
        num_stopped: Answered before all planned branches ended, because more would not have paid.
        num_branches_spared: Branches that these did not need.
    """

    num_answered: int
    num_failed: int
    num_degraded: int
    num_stopped: int
    num_branches_spared: int


def batch_outcome(session: Session, batch_id: int) -> Outcome:
    """Count what became of a batch's problems."""
    return _outcome(session, Problem.batch_id == batch_id)


def job_outcome(session: Session, job_id: str) -> Outcome:
    """Count what became of a job's problems so far."""
    return _outcome(session, Problem.job_id == job_id)


def _outcome(session: Session, where: ColumnElement[bool]) -> Outcome:
    answered = Problem.state == ProblemState.ANSWERED
    spared = Problem.num_branches - Problem.num_branches_finished
    stopped = and_(answered, Problem.degraded.is_(False), spared > 0)
    row = session.execute(
        select(
            func.count().filter(answered),
            func.count().filter(Problem.state == ProblemState.FAILED),
            func.count().filter(answered, Problem.degraded.is_(True)),
            func.count().filter(stopped),
            func.sum(spared).filter(stopped),
        ).where(where)
    ).one()
    # A sum over no rows is NULL.
    return Outcome(*(int(count or 0) for count in row))


def cancel_job_problems(session: Session, job_id: str, *, now: datetime) -> int:
    """Close every open problem of a cancelled job, whose batches are locked; says how many."""
    cancelled = session.scalars(
        update(Problem)
        .where(
            Problem.job_id == job_id,
            Problem.finished_at.is_(None),
            Problem.state.in_(sources_of(ProblemState.CANCELLED, PROBLEM_TRANSITIONS)),
        )
        .values(state=ProblemState.CANCELLED, finished_at=now)
        .returning(Problem.id)
    ).all()
    return len(cancelled)
