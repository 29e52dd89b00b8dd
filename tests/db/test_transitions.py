"""Transitions over all pairs of states: legal ones move the row, illegal ones change nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.batches import cancel_job_batches, create_batch, finish_batch, lose_batches
from db.branches import insert_branches
from db.claims import claim_batch
from db.deadlines import expire_jobs
from db.endings import finish_cancelled, finish_jobs
from db.events import list_events
from db.jobs import request_cancel, start_job
from db.keys import LOCAL_TENANT
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.session import SessionFactory
from scheduler.core.states import (
    BATCH_TRANSITIONS,
    JOB_TRANSITIONS,
    PROBLEM_TRANSITIONS,
    BatchState,
    JobState,
    ProblemState,
    sources_of,
    terminal_states,
)
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    plan,
    problem_answer,
    stored_job,
)

LATER = after(90)


def _force_job(session: Session, job_id: str, state: JobState) -> None:
    ended = state in terminal_states(JOB_TRANSITIONS)
    values: dict[str, Any] = {"state": state, "started_at": NOW}
    if ended:
        values["finished_at"] = NOW
        values["met_deadline"] = None if state is JobState.CANCELLED else False
    session.execute(update(Job).where(Job.id == job_id).values(**values))


def _force_batch(session: Session, batch_id: int, state: BatchState) -> None:
    ended = state in terminal_states(BATCH_TRANSITIONS)
    session.execute(
        update(Batch)
        .where(Batch.id == batch_id)
        .values(state=state, finished_at=NOW if ended else None)
    )


def _force_problem(session: Session, problem_id: int, state: ProblemState) -> None:
    values: dict[str, Any] = {"state": state}
    if state in terminal_states(PROBLEM_TRANSITIONS):
        values["finished_at"] = NOW
    if state is ProblemState.PENDING:
        values["batch_id"] = None
    if state is ProblemState.ANSWERED:
        values["vote_share"] = 1.0
    if state is ProblemState.FAILED:
        values["error"] = "made up"
    session.execute(update(Problem).where(Problem.id == problem_id).values(**values))


def _close_problems(outcome: ProblemState) -> Callable[[Session, str], object]:
    """End a job by giving all of its problems this outcome."""

    def close(session: Session, job_id: str) -> object:
        for problem_id in session.scalars(select(Problem.id).where(Problem.job_id == job_id)):
            _force_problem(session, problem_id, outcome)
        return finish_jobs(session, now=LATER)

    return close


_JOB_MOVES: dict[JobState, Callable[[Session, str], object]] = {
    JobState.RUNNING: lambda session, job_id: start_job(session, job_id, now=LATER),
    JobState.COMPLETED: _close_problems(ProblemState.ANSWERED),
    JobState.EXPIRED: _close_problems(ProblemState.EXPIRED),
    JobState.FAILED: _close_problems(ProblemState.FAILED),
    JobState.CANCELLING: lambda session, job_id: request_cancel(
        session, LOCAL_TENANT, job_id, now=LATER
    ),
    JobState.CANCELLED: lambda session, job_id: finish_cancelled(session, job_id, now=LATER),
}


@pytest.mark.parametrize("target", _JOB_MOVES)
def test_a_job_enters_a_state_from_its_sources_only(
    sessions: SessionFactory, target: JobState
) -> None:
    for source in JobState:
        with sessions.begin() as session:
            job_id = stored_job(session, num_problems=1)
            _force_job(session, job_id, source)
            _JOB_MOVES[target](session, job_id)
        legal = source in sources_of(target, JOB_TRANSITIONS)
        with sessions() as session:
            job = session.get_one(Job, job_id)
            assert job.state == (target if legal else source), source
            kinds = [event.kind for event in list_events(session, job_id)]
        # The start of a job is recorded by the claim that causes it.
        assert (f"job.{target}" in kinds) == (legal and target is not JobState.RUNNING)


_BATCH_MOVES: dict[BatchState, Callable[[Session, Batch], object]] = {
    BatchState.CLAIMED: lambda session, batch: claim_batch(
        session, batch_id=batch.id, owner="w1-9", lease_s=4.0, now=LATER
    ),
    BatchState.DONE: lambda session, batch: finish_batch(
        session, batch_id=batch.id, epoch=1, now=LATER
    ),
    BatchState.LOST: lambda session, batch: lose_batches(session, [batch.id], now=LATER),
    BatchState.CANCELLED: lambda session, batch: cancel_job_batches(
        session, batch.job_id, now=LATER
    ),
}


@pytest.mark.parametrize("target", _BATCH_MOVES)
def test_a_batch_enters_a_state_from_its_sources_only(
    sessions: SessionFactory, target: BatchState
) -> None:
    for source in BatchState:
        with sessions.begin() as session:
            job_id = stored_job(session, num_problems=1)
            batch_id = claimed_batch(session, job_id).id
            _force_batch(session, batch_id, source)
        with sessions.begin() as session:
            events_before = len(list_events(session, job_id))
            _BATCH_MOVES[target](session, session.get_one(Batch, batch_id))
        legal = source in sources_of(target, BATCH_TRANSITIONS)
        with sessions() as session:
            batch = session.get_one(Batch, batch_id)
            assert batch.state == (target if legal else source), source
            assert batch.finished_at in (None, LATER if legal else NOW)
            assert len(list_events(session, job_id)) == events_before + legal


def _dispatch(session: Session, problem: Problem) -> object:
    return create_batch(
        session, job_id=problem.job_id, worker_name="w1", plan=plan(), num_problems=9, now=LATER
    )


def _claim(session: Session, problem: Problem) -> object:
    _force_batch(session, problem.batch_id or 0, BatchState.PLANNED)
    return claim_batch(
        session, batch_id=problem.batch_id or 0, owner="w1-9", lease_s=4.0, now=LATER
    )


def _answer(state: ProblemState) -> Callable[[Session, Problem], object]:
    answered = state is ProblemState.ANSWERED
    return lambda session, problem: answer_problems(
        session,
        batch_id=problem.batch_id or 0,
        epoch=1,
        answers=[
            problem_answer(
                problem.id,
                state=state,
                answer="7" if answered else None,
                vote_share=1.0 if answered else None,
                error=None if answered else "the engine refused the prompt",
            )
        ],
    )


def _strike(with_branch: bool) -> Callable[[Session, Problem], object]:
    def strike(session: Session, problem: Problem) -> object:
        if with_branch:
            (batch,) = session.scalars(select(Batch).where(Batch.job_id == problem.job_id))
            row = branch_row(problem.id)
            insert_branches(session, batch_id=batch.id, epoch=1, rows=[row])
        return expire_jobs(session, [problem.job_id], now=LATER)

    return strike


def _cancel(session: Session, problem: Problem) -> object:
    request_cancel(session, LOCAL_TENANT, problem.job_id, now=LATER)
    return finish_cancelled(session, problem.job_id, now=LATER)


_RUNNING_ONLY = (ProblemState.RUNNING,)
_DISPATCHED_ONLY = (ProblemState.DISPATCHED,)


@pytest.mark.parametrize(
    ("target", "move", "sources"),
    [
        pytest.param(ProblemState.DISPATCHED, _dispatch, None, id="dispatch"),
        pytest.param(ProblemState.RUNNING, _claim, _DISPATCHED_ONLY, id="claim"),
        pytest.param(
            ProblemState.PENDING,
            lambda session, problem: lose_batches(session, [problem.batch_id or 0], now=LATER),
            None,
            id="rescue",
        ),
        pytest.param(
            ProblemState.ANSWERED, _answer(ProblemState.ANSWERED), _RUNNING_ONLY, id="answer"
        ),
        pytest.param(ProblemState.FAILED, _answer(ProblemState.FAILED), _RUNNING_ONLY, id="fail"),
        pytest.param(ProblemState.ANSWERED, _strike(True), None, id="degrade"),
        pytest.param(ProblemState.EXPIRED, _strike(False), None, id="expire"),
        pytest.param(ProblemState.CANCELLED, _cancel, None, id="cancel"),
    ],
)
def test_a_problem_enters_a_state_from_its_sources_only(
    sessions: SessionFactory,
    target: ProblemState,
    move: Callable[[Session, Problem], object],
    sources: tuple[ProblemState, ...] | None,
) -> None:
    allowed = sources_of(target, PROBLEM_TRANSITIONS)
    legal = allowed if sources is None else sources
    assert set(legal) <= set(allowed)
    for source in ProblemState:
        with sessions.begin() as session:
            job_id = stored_job(session, num_problems=1)
            problem_id = claimed_batch(session, job_id).problems[0].id
            _force_problem(session, problem_id, source)
        with sessions.begin() as session:
            move(session, session.get_one(Problem, problem_id))
        with sessions() as session:
            problem = session.get_one(Problem, problem_id)
            assert problem.state == (target if source in legal else source), source
            if source in terminal_states(PROBLEM_TRANSITIONS):
                assert problem.finished_at == NOW


def test_every_target_of_the_tables_has_a_statement() -> None:
    assert set(_JOB_MOVES) == {state for targets in JOB_TRANSITIONS.values() for state in targets}
    assert set(_BATCH_MOVES) == {
        state for targets in BATCH_TRANSITIONS.values() for state in targets
    }
