"""Problems: loading in bulk and guarded answers."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from db.jobs import insert_job
from db.keys import ensure_local_tenant
from db.models import Problem
from db.problems import NewProblem, answer_problems, insert_problems
from db.progress import job_progress
from db.session import SessionFactory
from scheduler.core.decisions import Admitted
from scheduler.core.states import ProblemState
from tests.factories import (
    NOW,
    after,
    claimed_batch,
    forecast,
    new_job,
    plan,
    problem_answer,
    stored_job,
)


def _endless_text(num_problems: int) -> Iterator[NewProblem]:
    for number in range(num_problems):
        yield NewProblem(f"key {number}", f"What is {number}?\n\tTab \\ and quote '", str(number))


def test_twenty_thousand_problems_stream_in_within_seconds(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
        job = new_job(num_problems=20_000)
        insert_job(session, job, Admitted(plan(), forecast(), degraded=False))
        began_s = time.monotonic()
        assert insert_problems(session, job.id, _endless_text(20_000)) == 20_000
        took_s = time.monotonic() - began_s
        in_order = select(func.bool_and(Problem.key == func.concat("key ", Problem.position)))
        assert session.scalar(in_order)
        last = session.scalars(select(Problem).where(Problem.position == 19_999)).one()
    assert last.prompt == "What is 19999?\n\tTab \\ and quote '"
    assert (last.reference_answer, last.state) == ("19999", "pending")
    assert took_s < 10


def test_problems_with_the_same_key_are_refused_with_the_whole_job(
    sessions: SessionFactory,
) -> None:
    twice = [NewProblem("p", "1+1="), NewProblem("p", "1+2=")]
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
    with pytest.raises(psycopg.errors.UniqueViolation), sessions.begin() as session:
        insert_problems(session, job_id, twice)
    with sessions() as session:
        assert job_progress(session, job_id).pending == 2


def test_problems_may_be_stored_before_their_job_but_not_without_it(
    sessions: SessionFactory,
) -> None:
    job = new_job(num_problems=1)
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
        insert_problems(session, job.id, [NewProblem("p", "1+1=")])
        insert_job(session, job, Admitted(plan(), forecast(), degraded=False))
    with sessions() as session:
        assert job_progress(session, job.id).pending == 1
    with pytest.raises(IntegrityError), sessions.begin() as session:
        insert_problems(session, new_job().id, [NewProblem("p", "1+1=")])


def test_a_batch_of_answers_closes_its_problems(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=3)
        claimed = claimed_batch(session, job_id)
        ids = [problem.id for problem in claimed.problems]
        answers = [
            problem_answer(ids[2], answer="9", is_correct=False, degraded=True, vote_share=0.5),
            problem_answer(ids[0]),
            problem_answer(
                ids[1],
                state=ProblemState.FAILED,
                answer=None,
                vote_share=None,
                is_correct=None,
                error="prompt too long",
            ),
        ]
        assert answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        progress = job_progress(session, job_id)
        degraded = session.get_one(Problem, ids[2])
    assert (progress.answered, progress.failed, progress.degraded) == (2, 1, 1)
    assert (progress.num_graded, progress.num_correct, progress.accuracy) == (2, 1, 0.5)
    assert (degraded.answer, degraded.vote_share) == ("9", 0.5)
    assert degraded.finished_at == after(1)


def test_an_answered_problem_is_not_answered_again(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        problem_id = claimed.problems[0].id
        for answer in ("7", "8"):
            answers = [problem_answer(problem_id, answer=answer)]
            assert answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        assert session.get_one(Problem, problem_id).answer == "7"


def test_a_batch_cannot_answer_problems_of_another(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        first = claimed_batch(session, job_id, num_problems=1)
        second = claimed_batch(session, job_id, num_problems=1)
        answers = [problem_answer(second.problems[0].id)]
        answer_problems(session, batch_id=first.id, epoch=1, answers=answers)
        assert session.get_one(Problem, second.problems[0].id).state == "running"
