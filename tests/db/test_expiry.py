"""The deadline: every problem with a finished branch is answered from what is stored."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from db.batches import lose_batches
from db.branches import insert_branches
from db.changes import change_job, hold_job
from db.deadlines import expire_jobs
from db.endings import finish_jobs
from db.events import list_events
from db.keys import LOCAL_TENANT
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.session import SessionFactory
from scheduler.core.stopping import plurality
from tests.factories import (
    after,
    branch_row,
    claimed_batch,
    problem_answer,
    stored_batch,
    stored_job,
    unfinished_row,
    votes,
)

DEADLINE = after(60)
_numbers = count()


def _expired(
    sessions: SessionFactory,
    classes: Sequence[int | None],
    *,
    reference_answer: str | None = "7",
    is_graded: bool = True,
) -> Problem:
    """The one problem of a job whose deadline struck with these votes stored."""
    with sessions.begin() as session:
        job_id = stored_job(
            session,
            id=f"job_expiry_{next(_numbers)}",
            num_problems=1,
            reference_answer=reference_answer,
        )
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        rows = votes(problem_id, classes)
        if not is_graded:
            rows = [replace(row, is_correct=None) for row in rows]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        assert expire_jobs(session, [job_id], now=DEADLINE) == [job_id]
    with sessions() as session:
        return session.get_one(Problem, problem_id)


def test_a_problem_without_a_finished_branch_expires(sessions: SessionFactory) -> None:
    problem = _expired(sessions, [])
    assert (problem.state, problem.answer, problem.vote_share) == ("expired", None, None)
    assert (problem.finished_at, problem.degraded) == (DEADLINE, False)


def test_the_class_with_most_votes_wins_degraded(sessions: SessionFactory) -> None:
    problem = _expired(sessions, [1, 0, 0, None])
    assert (problem.state, problem.answer, problem.degraded) == ("answered", "answer 0", True)
    assert (problem.vote_share, problem.num_branches_finished) == (0.5, 4)
    assert problem.is_correct is True


def test_a_tie_goes_to_the_class_that_was_voted_for_first(sessions: SessionFactory) -> None:
    problem = _expired(sessions, [1, 0, 0, 1])
    assert (problem.answer, problem.is_correct) == ("answer 1", False)


def test_a_tie_is_about_time_and_not_about_branch_indexes(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        late, early = votes(problem_id, [0, 1])
        rows = [replace(late, finished_at=after(9)), replace(early, finished_at=after(8))]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        expire_jobs(session, [job_id], now=DEADLINE)
        assert session.get_one(Problem, problem_id).answer == "answer 1"


def test_branches_without_an_answer_give_an_empty_answer_without_votes(
    sessions: SessionFactory,
) -> None:
    problem = _expired(sessions, [None, None])
    assert (problem.state, problem.answer, problem.vote_share) == ("answered", None, 0.0)
    assert (problem.is_correct, problem.degraded) == (False, True)


def test_with_nothing_to_grade_by_nothing_is_graded(sessions: SessionFactory) -> None:
    for classes in ([0], [None]):
        problem = _expired(sessions, classes, reference_answer=None, is_graded=False)
        assert problem.is_correct is None


def test_what_branches_were_graded_by_without_a_reference_answer_counts(
    sessions: SessionFactory,
) -> None:
    # As by a pattern of the job's.
    assert _expired(sessions, [0], reference_answer=None).is_correct is True
    assert _expired(sessions, [1], reference_answer=None).is_correct is False


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(classes=st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=8))
def test_the_vote_is_that_of_the_workers_rule(
    sessions: SessionFactory, classes: list[int | None]
) -> None:
    problem = _expired(sessions, classes)
    vote = plurality(classes)
    assert problem.answer == (None if vote is None else f"answer {vote.vote_class}")
    assert problem.vote_share == pytest.approx(0.0 if vote is None else vote.share)


def test_aborted_branches_do_not_vote(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        rows = [unfinished_row(problem_id, 0), unfinished_row(problem_id, 1)]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        expire_jobs(session, [job_id], now=DEADLINE)
        assert session.get_one(Problem, problem_id).state == "expired"


def test_every_open_state_is_closed_and_the_batches_with_them(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=6)
        rescued = claimed_batch(session, job_id, num_problems=1)
        row = branch_row(rescued.problems[0].id)
        insert_branches(session, batch_id=rescued.id, epoch=1, rows=[row])
        running = claimed_batch(session, job_id, num_problems=2)
        answers = [problem_answer(running.problems[0].id)]
        answer_problems(session, batch_id=running.id, epoch=1, answers=answers)
        planned = stored_batch(session, job_id, num_problems=2)
        lose_batches(session, [rescued.id], now=after(5))
        assert expire_jobs(session, [job_id], now=DEADLINE) == [job_id]
        problems = session.scalars(select(Problem).order_by(Problem.position)).all()
        assert [problem.state for problem in problems] == [
            "answered",
            "answered",
            "expired",
            "expired",
            "expired",
            "expired",
        ]
        assert [problem.degraded for problem in problems[:2]] == [True, False]
        assert session.get_one(Batch, planned).state == "cancelled"
        assert session.get_one(Batch, running.id).state == "cancelled"
        assert finish_jobs(session, now=DEADLINE) == [job_id]
        job = session.get_one(Job, job_id)
        assert (job.state, job.finished_at) == ("expired", DEADLINE)
        struck = [e.data for e in list_events(session, job_id) if e.kind == "deadline.struck"]
    assert struck == [{"answered": 1, "expired": 4}]


def test_a_job_is_not_expired_before_its_deadline(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        assert expire_jobs(session, [job_id], now=after(59.9)) == []
        assert session.scalars(select(Problem.state).distinct()).all() == ["pending"]


def test_a_worker_that_was_cut_off_cannot_write_after_the_deadline(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        expire_jobs(session, [job_id], now=DEADLINE)
        answers = [problem_answer(claimed.problems[0].id)]
        assert not answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        assert session.get_one(Problem, claimed.problems[0].id).state == "expired"


def test_an_answer_wins_the_race_against_the_deadline(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        answers = [problem_answer(claimed.problems[0].id, finished_at=after(59))]
        assert answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        expire_jobs(session, [job_id], now=DEADLINE)
        assert finish_jobs(session, now=DEADLINE) == [job_id]
        job = session.get_one(Job, job_id)
    assert (job.state, job.finished_at) == ("completed", after(59))


def test_a_deadline_put_off_at_the_last_moment_does_not_strike(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed_batch(session, job_id)

    def strike() -> list[str]:
        with sessions.begin() as session:
            return expire_jobs(session, [job_id], now=DEADLINE)

    with ThreadPoolExecutor(1) as pool:
        with sessions.begin() as session:
            job = hold_job(session, LOCAL_TENANT, job_id)
            assert job is not None
            change_job(
                session,
                job,
                deadline_at=after(90),
                weight=1.0,
                promise=None,
                now=after(59),
            )
            struck = pool.submit(strike)
            # It waits for who was first.
            with pytest.raises(TimeoutError):
                struck.result(0.2)
        assert struck.result(10) == []
    with sessions() as session:
        assert session.scalars(select(Problem.state)).all() == ["running"]
        assert session.scalars(select(Batch.state)).all() == ["claimed"]
