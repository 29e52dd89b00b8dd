"""A cancel never goes back: whatever else happens to a job, before it, after it or at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.batches import create_batch, finish_batch, lose_batches
from db.branches import insert_branches
from db.changes import change_job, hold_job, is_under_way
from db.claims import ClaimedBatch, claim_batch
from db.deadlines import expire_jobs
from db.endings import finish_cancelled, finish_jobs
from db.events import list_events
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.session import SessionFactory
from scheduler.core.event_kinds import ENDS
from scheduler.core.states import (
    BATCH_TRANSITIONS,
    JOB_TRANSITIONS,
    PROBLEM_TRANSITIONS,
    JobState,
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
    stored_worker,
)

STRUCK = after(60)
NUM_PROBLEMS = 3


def _reachable(source: JobState, target: JobState) -> bool:
    """Whether arrows lead there; several may be passed in one step."""
    targets = JOB_TRANSITIONS[source]
    return source is target or any(_reachable(each, target) for each in targets)


@dataclass
class Seen:
    """What was last seen of a job."""

    state: JobState = JobState.QUEUED
    is_cancelled: bool = False
    ended: tuple[Any, ...] = ()


def check(sessions: SessionFactory, job_id: str, seen: Seen) -> None:
    """Nothing went back since, and what has ended is whole."""
    with sessions() as session:
        job = session.get_one(Job, job_id)
        problems = session.scalars(select(Problem).where(Problem.job_id == job_id)).all()
        batches = session.scalars(select(Batch.state).where(Batch.job_id == job_id)).all()
        ends = [e.kind for e in list_events(session, job_id) if e.kind in ENDS]
    state = JobState(job.state)
    assert _reachable(seen.state, state), (seen.state, state)
    assert not seen.is_cancelled or state in (JobState.CANCELLING, JobState.CANCELLED)
    assert ends == ([f"job.{state}"] if state in terminal_states(JOB_TRANSITIONS) else [])
    over = terminal_states(PROBLEM_TRANSITIONS)
    if ends:
        assert {p.state for p in problems} <= set(over)
    if state is JobState.CANCELLED:
        assert set(batches) <= set(terminal_states(BATCH_TRANSITIONS))
    ended = tuple(
        sorted((p.id, p.state, p.answer, p.finished_at) for p in problems if p.state in over)
    )
    assert set(seen.ended) <= set(ended)
    seen.state, seen.ended = state, ended


class Life(RuleBasedStateMachine):
    """Everything that may happen to a job, one transaction after another."""

    sessions: SessionFactory

    def __init__(self) -> None:
        super().__init__()
        with self.sessions.begin() as session:
            self.job_id = stored_job(session, num_problems=NUM_PROBLEMS)
            stored_worker(session)
        self.seen = Seen()
        self.held: list[tuple[int, int, list[int]]] = []

    @rule(num_problems=st.integers(1, 2))
    def hand_out(self, num_problems: int) -> None:
        with self.sessions.begin() as session:
            batch_id = create_batch(
                session,
                job_id=self.job_id,
                worker_name="w1",
                plan=plan(num_branches=1),
                num_problems=num_problems,
                now=NOW,
            )
        if batch_id is None:
            return
        with self.sessions.begin() as session:
            batch = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=NOW)
        if batch is not None:
            self.held.append((batch.id, batch.epoch, [p.id for p in batch.problems]))

    @rule(which=st.integers(0, 9), answers=st.booleans())
    def work(self, which: int, answers: bool) -> None:
        """A worker writes, whether or not the batch is still its own."""
        if not self.held:
            return
        batch_id, epoch, problems = self.held[which % len(self.held)]
        problem_id = problems[which % len(problems)]
        with self.sessions.begin() as session:
            if answers:
                told = [problem_answer(problem_id, num_branches_finished=1)]
                answer_problems(session, batch_id=batch_id, epoch=epoch, answers=told)
            else:
                rows = [branch_row(problem_id, which)]
                insert_branches(session, batch_id=batch_id, epoch=epoch, rows=rows)

    @rule(which=st.integers(0, 9), is_lost=st.booleans())
    def let_go(self, which: int, is_lost: bool) -> None:
        if not self.held:
            return
        batch_id, epoch, _ = self.held[which % len(self.held)]
        with self.sessions.begin() as session:
            if is_lost:
                lose_batches(session, [batch_id], now=after(1))
            else:
                finish_batch(session, batch_id=batch_id, epoch=epoch, now=after(1))

    @rule()
    def cancel(self) -> None:
        with self.sessions.begin() as session:
            if request_cancel(session, LOCAL_TENANT, self.job_id, now=after(2)):
                self.seen.is_cancelled = True

    @rule()
    def end_the_cancelled(self) -> None:
        with self.sessions.begin() as session:
            finish_cancelled(session, self.job_id, now=after(3))

    @rule()
    def strike(self) -> None:
        with self.sessions.begin() as session:
            expire_jobs(session, [self.job_id], now=STRUCK)

    @rule()
    def end(self) -> None:
        with self.sessions.begin() as session:
            finish_jobs(session, now=STRUCK)

    @rule(deadline_s=st.sampled_from([30.0, 60.0, 90.0]))
    def change(self, deadline_s: float) -> None:
        with self.sessions.begin() as session:
            _change(session, self.job_id, deadline_s)

    @invariant()
    def nothing_goes_back(self) -> None:
        check(self.sessions, self.job_id, self.seen)


def _change(session: Session, job_id: str, deadline_s: float) -> bool:
    job = hold_job(session, LOCAL_TENANT, job_id)
    if job is None or not is_under_way(session, job, NOW):
        return False
    change_job(
        session,
        job,
        deadline_at=after(deadline_s),
        weight=2.0,
        promise=None,
        now=NOW,
    )
    return True


def test_no_order_of_what_may_happen_takes_a_cancel_or_an_end_back(
    sessions: SessionFactory,
) -> None:
    life = type("Life", (Life,), {"sessions": sessions})
    bounds = settings(
        max_examples=25,
        stateful_step_count=20,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(life, settings=bounds)


def _complete(session: Session, batch: ClaimedBatch) -> object:
    told = [problem_answer(p.id, num_branches_finished=1) for p in batch.problems]
    answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=told)
    session.commit()
    return finish_jobs(session, now=after(2))


def _expire(session: Session, batch: ClaimedBatch) -> object:
    expire_jobs(session, [batch.job_id], now=STRUCK)
    session.commit()
    return finish_jobs(session, now=STRUCK)


_RIVALS: dict[str, Callable[[Session, ClaimedBatch], object]] = {
    "completion": _complete,
    "expiry": _expire,
    "rescue": lambda session, batch: lose_batches(session, [batch.id], now=after(2)),
    "the end of the batch": lambda session, batch: finish_batch(
        session, batch_id=batch.id, epoch=batch.epoch, now=after(2)
    ),
    "a change": lambda session, batch: _change(session, batch.job_id, 90.0),
    "its own end": lambda session, batch: finish_cancelled(session, batch.job_id, now=after(2)),
}


@pytest.mark.parametrize("rival", _RIVALS)
def test_a_cancel_that_was_granted_wins_against_what_happens_at_once(
    sessions: SessionFactory, rival: str
) -> None:
    num_granted = 0
    with ThreadPoolExecutor(2) as pool:
        for _ in range(15):
            with sessions.begin() as session:
                job_id = stored_job(session, num_problems=NUM_PROBLEMS)
                batch = claimed_batch(session, job_id)
            both = Barrier(2)

            def cancel(job_id: str = job_id, both: Barrier = both) -> bool:
                with sessions.begin() as session:
                    both.wait()
                    return request_cancel(session, LOCAL_TENANT, job_id, now=after(1))

            def compete(batch: ClaimedBatch = batch, both: Barrier = both) -> None:
                with sessions() as session:
                    both.wait()
                    _RIVALS[rival](session, batch)
                    session.commit()

            granted, done = pool.submit(cancel), pool.submit(compete)
            done.result(30)
            num_granted += granted.result(30)
            seen = Seen(is_cancelled=granted.result())
            check(sessions, job_id, seen)
            with sessions.begin() as session:
                finish_cancelled(session, job_id, now=after(3))
                finish_jobs(session, now=STRUCK)
            check(sessions, job_id, seen)
            if seen.is_cancelled:
                assert seen.state is JobState.CANCELLED
    if rival not in ("completion", "expiry"):
        assert num_granted == 15
    with sessions() as session:
        ends = select(func.count()).select_from(Job).where(Job.finished_at.is_not(None))
        assert (session.scalar(ends) or 0) >= num_granted
