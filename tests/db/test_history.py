"""The history of a job: one event per transition or decision, with what it decided."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.batches import finish_batch, lose_batches
from db.branches import insert_branches
from db.claims import claim_batch
from db.deadlines import expire_jobs
from db.endings import finish_jobs
from db.events import list_events
from db.jobs import insert_job
from db.keys import ensure_local_tenant
from db.models import Problem
from db.plans import store_plan
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from scheduler.core.decisions import Admitted, PlanReason
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    forecast,
    new_job,
    plan,
    problem_answer,
    stored_batch,
    stored_job,
)


@pytest.fixture
def session(sessions: SessionFactory) -> Iterator[Session]:
    with transaction(sessions) as session:
        yield session


def data_of(session: Session, job_id: str, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in list_events(session, job_id, kinds=[kind])]


def test_an_admission_keeps_its_verdict_and_its_explanation(session: Session) -> None:
    ensure_local_tenant(session, now=NOW)
    job = new_job()
    admitted = Admitted(plan=plan(), forecast=forecast(), degraded=True)
    insert_job(session, job, admitted, decision={"basis": {"source": "a test"}})

    (admission,) = data_of(session, job.id, "job.queued")

    assert admission["verdict"] == "accepted_degraded"
    assert admission["decision"] == {"basis": {"source": "a test"}}


def test_a_new_plan_keeps_the_one_before_and_its_reason(session: Session) -> None:
    job_id = stored_job(session)
    for at, reason in ((5, PlanReason.WOULD_BE_LATE), (6, None)):
        assert store_plan(
            session, job_id, plan(num_branches=2), forecast(), now=after(at), reason=reason
        )

    (change,) = data_of(session, job_id, "plan.stored")

    assert change["reason"] == "would_be_late"
    assert (change["before"]["num_branches"], change["num_branches"]) == (4, 2)


def test_a_batch_counts_the_problems_that_stopped_early_and_what_they_spared(
    session: Session,
) -> None:
    job_id = stored_job(session, num_problems=4)
    batch = claimed_batch(session, job_id, num_problems=4)
    rows = [branch_row(problem.id) for problem in batch.problems]
    assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)
    early, whole, degraded, _ = batch.problems
    answers = [
        problem_answer(early.id, num_branches_finished=1),
        problem_answer(whole.id, num_branches_finished=4),
        problem_answer(degraded.id, num_branches_finished=1, degraded=True),
    ]
    assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)
    assert finish_batch(session, batch_id=batch.id, epoch=batch.epoch, now=after(2))

    (done,) = data_of(session, job_id, "batch.done")

    assert done == {
        "batch_id": batch.id,
        "num_released": 1,
        "num_answered": 3,
        "num_failed": 0,
        "num_degraded": 1,
        "num_stopped": 1,
        "num_branches_spared": 3,
    }


def test_branches_that_might_have_followed_count_as_planned(session: Session) -> None:
    job_id = stored_job(session, num_problems=1)
    batch_id = stored_batch(session, job_id, num_problems=1, num_branches=1, max_branches=4)
    batch = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=after(0))
    assert batch is not None
    (problem,) = batch.problems
    answers = [problem_answer(problem.id, num_branches_finished=2)]
    assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)
    assert finish_batch(session, batch_id=batch.id, epoch=batch.epoch, now=after(2))

    (done,) = data_of(session, job_id, "batch.done")

    assert (done["num_stopped"], done["num_branches_spared"]) == (1, 2)
    assert session.scalars(select(Problem.num_branches)).all() == [4]


def test_a_lost_batch_counts_the_problems_that_go_back(session: Session) -> None:
    job_id = stored_job(session, num_problems=3)
    batch_id = stored_batch(session, job_id, num_problems=3)
    assert lose_batches(session, [batch_id], now=after(5)) == [batch_id]

    (lost,) = data_of(session, job_id, "batch.lost")

    assert lost == {"batch_id": batch_id, "worker": "w1", "num_open": 3, "reason": "given_back"}


def test_the_end_of_a_job_counts_how_its_problems_ended(session: Session) -> None:
    job_id = stored_job(session, num_problems=3, deadline_at=after(10))
    batch = claimed_batch(session, job_id, num_problems=2)
    for problem in batch.problems:
        assert insert_branches(
            session, batch_id=batch.id, epoch=batch.epoch, rows=[branch_row(problem.id)]
        )
    answers = [problem_answer(batch.problems[0].id)]
    assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)
    assert expire_jobs(session, [job_id], now=after(10)) == [job_id]
    assert finish_jobs(session, now=after(10)) == [job_id]

    (ended,) = data_of(session, job_id, "job.expired")

    assert ended == {"num_answered": 2, "num_degraded": 1, "num_expired": 1, "num_failed": 0}
