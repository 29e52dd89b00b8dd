"""What is queued is what is open, whatever happens to jobs, batches and problems."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.batches import create_batch, lose_batches
from db.branches import insert_branches
from db.claims import claim_batch
from db.deadlines import expire_jobs
from db.endings import finish_cancelled, finish_jobs, note_plan_failure
from db.jobs import request_cancel
from db.keys import create_tenant
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.quotas import queued_jobs
from db.session import SessionFactory
from scheduler.core.states import LIVE, ProblemState
from tests.factories import NOW, after, branch_row, plan, problem_answer, stored_job, stored_worker

_numbers = count()


class Walk:
    """One tenant whose jobs go through whatever steps are drawn."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tenant_id = create_tenant(session, name=f"walk {next(_numbers)}", now=NOW)
        stored_worker(session)
        self.jobs: list[str] = []

    def queued(self) -> float:
        return sum(job.tokens for job in queued_jobs(self.session, self.tenant_id))

    def recounted(self) -> float:
        """The same from every row of the tenant, without a query that knows of quotas."""
        self.session.expire_all()
        jobs = self.session.scalars(select(Job).where(Job.tenant_id == self.tenant_id)).all()
        problems = self.session.scalars(
            select(Problem).where(Problem.job_id.in_([job.id for job in jobs]))
        ).all()
        tokens = {job.id: job.tokens_per_problem for job in jobs if job.state in LIVE}
        return sum(tokens.get(each.job_id, 0.0) for each in problems if each.finished_at is None)

    def submit(self, number: int) -> None:
        self.jobs.append(
            stored_job(
                self.session,
                tenant_id=self.tenant_id,
                num_problems=1 + number % 5,
                tokens_per_problem=10.0 * (1 + number % 7),
                deadline_at=after(60 + number),
            )
        )

    def start(self, number: int) -> None:
        job_id = self._one(number)
        batch_id = job_id and create_batch(
            self.session,
            job_id=job_id,
            worker_name="w1",
            plan=plan(),
            num_problems=1 + number % 3,
            now=NOW,
        )
        if batch_id:
            claim_batch(self.session, batch_id=batch_id, owner="w1-1", lease_s=60.0, now=NOW)

    def answer(self, number: int) -> None:
        batch = self._batch(number)
        problem = (
            batch
            and self.session.scalars(
                select(Problem).where(Problem.batch_id == batch.id, Problem.finished_at.is_(None))
            ).first()
        )
        if batch and problem:
            lease = {"batch_id": batch.id, "epoch": batch.epoch}
            insert_branches(self.session, **lease, rows=[branch_row(problem.id)])
            state = (ProblemState.ANSWERED, ProblemState.FAILED)[number % 2]
            answer = problem_answer(problem.id)
            if state is ProblemState.FAILED:
                nothing = {"answer": None, "vote_share": None, "is_correct": None}
                answer = problem_answer(problem.id, state=state, error="no", **nothing)
            answer_problems(self.session, **lease, answers=[answer])

    def lose(self, number: int) -> None:
        if batch := self._batch(number):
            lose_batches(self.session, [batch.id], now=NOW, max_losses=2)

    def cancel(self, number: int) -> None:
        if job_id := self._one(number):
            request_cancel(self.session, self.tenant_id, job_id, now=NOW)

    def end_cancelled(self, number: int) -> None:
        if job_id := self._one(number):
            finish_cancelled(self.session, job_id, now=NOW)

    def expire(self, number: int) -> None:
        expire_jobs(self.session, self.jobs, now=after(60 + number))

    def give_up(self, number: int) -> None:
        if job_id := self._one(number):
            note_plan_failure(self.session, job_id, error="no", max_failures=1, now=NOW)

    def finish(self, _: int) -> None:
        finish_jobs(self.session, now=NOW)

    def _one(self, number: int) -> str | None:
        return self.jobs[number % len(self.jobs)] if self.jobs else None

    def _batch(self, number: int) -> Batch | None:
        live = self.session.scalars(
            select(Batch)
            .where(Batch.job_id.in_(self.jobs), Batch.finished_at.is_(None))
            .order_by(Batch.id)
        ).all()
        return live[number % len(live)] if live else None


_STEPS: tuple[Callable[[Walk, int], None], ...] = (
    Walk.submit,
    Walk.start,
    Walk.answer,
    Walk.lose,
    Walk.cancel,
    Walk.end_cancelled,
    Walk.expire,
    Walk.give_up,
    Walk.finish,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(0, 30)), min_size=5, max_size=40)
)
def test_whatever_happens_the_tokens_queued_are_those_of_open_problems(
    sessions: SessionFactory, steps: list[tuple[Callable[[Walk, int], None], int]]
) -> None:
    with sessions() as session:
        walk = Walk(session)
        for number in range(3):
            walk.submit(number)
        for step, number in steps:
            before = walk.queued()
            step(walk, number)
            assert walk.queued() == pytest.approx(walk.recounted())
            if step is not Walk.submit:
                assert walk.queued() <= before
        walk.expire(30)
        for number in range(len(walk.jobs)):
            walk.end_cancelled(number)
        assert walk.queued() == 0
        session.rollback()


def test_what_should_end_first_stands_first_and_others_are_not_counted(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        walk, other = Walk(session), Walk(session)
        other.submit(0)
        late, soon = (
            stored_job(
                session,
                tenant_id=walk.tenant_id,
                num_problems=2,
                tokens_per_problem=tokens,
                deadline_at=after(seconds),
            )
            for tokens, seconds in ((5.0, 500), (3.0, 5))
        )
        found = queued_jobs(session, walk.tenant_id)
        assert late != soon
        assert [(job.tokens, job.ends_at) for job in found] == [
            (6.0, after(5)),
            # Before its deadline, as its plan foresees.
            (10.0, after(10)),
        ]
