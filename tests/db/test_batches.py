"""Batches: creation, one winner per claim, leases, rescue."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from db.batches import create_batch, finish_batch, lose_batches, mark_sent
from db.branches import insert_branches
from db.claims import claim_batch
from db.endings import finish_cancelled
from db.events import list_events
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.leases import renew_leases
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.session import SessionFactory
from scheduler.core.states import ProblemState
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    plan,
    problem_answer,
    stored_batch,
    stored_job,
    stored_worker,
    unfinished_row,
)


def _states(sessions: SessionFactory, job_id: str) -> list[str]:
    with sessions() as session:
        return list(
            session.scalars(
                select(Problem.state).where(Problem.job_id == job_id).order_by(Problem.position)
            )
        )


def _kinds(sessions: SessionFactory, job_id: str) -> list[str]:
    with sessions() as session:
        return [event.kind for event in list_events(session, job_id)]


def test_a_batch_takes_the_first_pending_problems_with_the_plan(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=5)
        batch_id = stored_batch(session, job_id, num_problems=3, num_branches=6)
    assert _states(sessions, job_id) == ["dispatched"] * 3 + ["pending"] * 2
    with sessions() as session:
        batch = session.get_one(Batch, batch_id)
        assert (batch.state, batch.num_problems, batch.num_branches) == ("planned", 3, 6)
        problem = session.scalars(select(Problem).where(Problem.batch_id == batch_id)).first()
        job = session.get_one(Job, job_id)
    assert problem is not None
    assert (problem.num_branches, problem.dispatched_at) == (6, NOW)
    assert problem.predicted_finish_at == job.predicted_finish_at == after(10)
    assert problem.predicted_accuracy == job.predicted_accuracy
    assert _kinds(sessions, job_id) == ["job.queued", "batch.planned"]


def test_a_batch_is_not_created_without_pending_problems(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        stored_batch(session, job_id)
        second = create_batch(
            session, job_id=job_id, worker_name="w1", plan=plan(), num_problems=2, now=NOW
        )
        assert second is None
        assert len(session.scalars(select(Batch)).all()) == 1


def test_a_job_that_is_being_cancelled_gets_no_batch(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        worker_name = stored_worker(session)
        assert request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        batch_id = create_batch(
            session, job_id=job_id, worker_name=worker_name, plan=plan(), num_problems=2, now=NOW
        )
    assert batch_id is None


def test_schedulers_that_plan_at_once_do_not_share_a_problem(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=40)
        stored_worker(session)
    barrier = Barrier(4)

    def plan_batches(_: int) -> int:
        barrier.wait()
        with sessions.begin() as session:
            created = [
                create_batch(
                    session, job_id=job_id, worker_name="w1", plan=plan(), num_problems=5, now=NOW
                )
                for _ in range(4)
            ]
        return sum(batch_id is not None for batch_id in created)

    with ThreadPoolExecutor(4) as threads:
        num_batches = sum(threads.map(plan_batches, range(4)))
    with sessions() as session:
        counted = sum(session.scalars(select(Batch.num_problems)))
    assert counted == 40 - _states(sessions, job_id).count("pending")
    assert num_batches >= 4


def test_a_claim_has_one_winner_among_threads(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        batch_id = stored_batch(session, job_id)
    barrier = Barrier(8)

    def claim(number: int) -> int | None:
        barrier.wait()
        with sessions.begin() as session:
            claimed = claim_batch(
                session, batch_id=batch_id, owner=f"w1-{number}", lease_s=4.0, now=NOW
            )
        return None if claimed is None else claimed.epoch

    with ThreadPoolExecutor(8) as threads:
        epochs = [epoch for epoch in threads.map(claim, range(8)) if epoch is not None]
    assert epochs == [1]
    assert _states(sessions, job_id) == ["running"] * 4
    assert _kinds(sessions, job_id).count("batch.claimed") == 1


def test_a_claim_hands_over_the_work_and_starts_the_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2, temperature=0.3, top_p=0.9)
        claimed = claimed_batch(session, job_id)
        job = session.get_one(Job, job_id)
    assert (job.state, job.started_at) == ("running", NOW)
    assert (claimed.job_id, claimed.epoch, claimed.deadline_at) == (job_id, 1, after(60))
    assert (claimed.temperature, claimed.top_p, claimed.plan) == (0.3, 0.9, plan())
    assert [problem.key for problem in claimed.problems] == ["p0", "p1"]
    assert claimed.problems[0].prompt == "3+4+0*0="
    assert claimed.problems[0].reference_answer == "7"
    assert claimed.problems[0].finished == ()
    assert _kinds(sessions, job_id) == [
        "job.queued",
        "batch.planned",
        "job.running",
        "batch.claimed",
    ]


def test_a_batch_of_a_cancelling_job_cannot_be_claimed(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        batch_id = stored_batch(session, job_id)
        request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        claimed = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=NOW)
    assert claimed is None


def test_a_worker_of_another_model_cannot_claim_its_predecessors_batch(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        batch_id = stored_batch(session, job_id)
        stored_worker(session, incarnation="w1-2", model="another")
        claimed = claim_batch(session, batch_id=batch_id, owner="w1-2", lease_s=4.0, now=NOW)
    assert claimed is None
    assert _states(sessions, job_id) == ["dispatched"] * 4


def test_an_unknown_batch_cannot_be_claimed(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        assert claim_batch(session, batch_id=99, owner="w1-1", lease_s=4.0, now=NOW) is None


def test_only_planned_batches_are_marked_as_sent(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=6)
        claimed = claimed_batch(session, job_id, num_problems=3)
        planned = stored_batch(session, job_id, num_problems=3)
        mark_sent(session, [claimed.id, planned], now=after(1))
    with sessions() as session:
        assert session.get_one(Batch, claimed.id).sent_at is None
        assert session.get_one(Batch, planned).sent_at == after(1)


def test_a_lease_is_renewed_only_while_it_is_held(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=8)
        first = claimed_batch(session, job_id, num_problems=4)
        second = claimed_batch(session, job_id, num_problems=4)
    with sessions.begin() as session:
        both = [first.id, second.id]
        held = renew_leases(session, both, owner="w1-1", lease_s=4.0, now=after(2))
        assert held == {first.id: after(60), second.id: after(60)}
        assert session.get_one(Batch, first.id).lease_expires_at == after(6)
        assert lose_batches(session, [first.id], now=after(3)) == [first.id]
        renewed = {
            owner: renew_leases(session, both, owner=owner, lease_s=4.0, now=after(4))
            for owner in ("w1-1", "w1-2")
        }
    assert renewed == {"w1-1": {second.id: after(60)}, "w1-2": {}}


def test_a_rescued_problem_keeps_its_finished_branches(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        rows = [
            branch_row(problem_id, 0, finished_at=after(2)),
            branch_row(
                problem_id, 1, answer="8", vote_class=1, is_correct=False, finished_at=after(1)
            ),
            unfinished_row(problem_id, 2),
        ]
        assert insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
    with sessions.begin() as session:
        assert lose_batches(session, [claimed.id], now=after(5)) == [claimed.id]
    assert _states(sessions, job_id) == ["pending"]
    with sessions.begin() as session:
        again = claimed_batch(session, job_id)
    kept = again.problems[0].finished
    assert [(branch.branch_index, branch.answer) for branch in kept] == [(1, "8"), (0, "7")]
    assert [branch.is_correct for branch in kept] == [False, True]
    assert "batch.lost" in _kinds(sessions, job_id)


def test_rescue_leaves_answered_problems_alone(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=3)
        claimed = claimed_batch(session, job_id)
        answer = problem_answer(claimed.problems[0].id)
        assert answer_problems(session, batch_id=claimed.id, epoch=1, answers=[answer])
        lose_batches(session, [claimed.id], now=after(5))
    assert _states(sessions, job_id) == ["answered", "pending", "pending"]


def test_a_batch_is_lost_once(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        batch_id = stored_batch(session, job_id)
        assert lose_batches(session, [batch_id], now=after(1)) == [batch_id]
        assert lose_batches(session, [batch_id], now=after(2)) == []
        assert session.get_one(Batch, batch_id).finished_at == after(1)
    assert _kinds(sessions, job_id).count("batch.lost") == 1


@pytest.mark.parametrize("stale_epoch", [0, 2])
def test_a_stale_epoch_writes_nothing(sessions: SessionFactory, stale_epoch: int) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
    with sessions.begin() as session:
        lease = {"batch_id": claimed.id, "epoch": stale_epoch}
        assert not insert_branches(session, rows=[branch_row(problem_id)], **lease)
        assert not answer_problems(session, answers=[problem_answer(problem_id)], **lease)
        assert not finish_batch(session, now=after(1), **lease)
    assert _states(sessions, job_id) == ["running"]


def test_a_lost_batch_cannot_write_or_finish(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        lose_batches(session, [claimed.id], now=after(1))
        lease = {"batch_id": claimed.id, "epoch": claimed.epoch}
        assert not insert_branches(session, rows=[branch_row(problem_id)], **lease)
        assert not answer_problems(session, answers=[problem_answer(problem_id)], **lease)
        assert not finish_batch(session, now=after(2), **lease)
    assert _states(sessions, job_id) == ["pending"]


def test_finishing_a_batch_returns_what_it_left_open(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        claimed = claimed_batch(session, job_id)
        answer = problem_answer(claimed.problems[1].id)
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=[answer])
        assert finish_batch(session, batch_id=claimed.id, epoch=1, now=after(3))
        batch = session.get_one(Batch, claimed.id)
        assert (batch.state, batch.finished_at) == ("done", after(3))
    assert _states(sessions, job_id) == ["pending", "answered"]


def test_a_cancel_closes_batches_and_open_problems_and_keeps_answers(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=3)
        claimed = claimed_batch(session, job_id, num_problems=2)
        answer = problem_answer(claimed.problems[0].id)
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=[answer])
        assert not finish_cancelled(session, job_id, now=after(1))
        assert request_cancel(session, LOCAL_TENANT, job_id, now=after(1))
        assert finish_cancelled(session, job_id, now=after(2))
        assert not finish_cancelled(session, job_id, now=after(3))
        assert session.get_one(Batch, claimed.id).state == "cancelled"
        job = session.get_one(Job, job_id)
        assert (job.state, job.finished_at) == ("cancelled", after(2))
    assert _states(sessions, job_id) == ["answered", "cancelled", "cancelled"]


def test_a_problem_on_which_workers_are_lost_over_and_over_fails(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        for loss in range(3):
            claimed = claimed_batch(session, job_id, num_problems=2)
            if loss == 0:
                rows = [branch_row(claimed.problems[0].id, 0)]
                insert_branches(session, batch_id=claimed.id, epoch=claimed.epoch, rows=rows)
            lose_batches(session, [claimed.id], max_losses=3, now=after(loss))
        first, second = session.scalars(
            select(Problem).where(Problem.job_id == job_id).order_by(Problem.position)
        )
        assert (first.state, first.degraded) == (ProblemState.ANSWERED, True)
        assert second.state == ProblemState.FAILED
        assert second.error is not None
        assert "3 workers" in second.error


def test_batches_that_nobody_claimed_or_that_were_given_back_count_no_loss(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        planned = stored_batch(session, job_id, num_problems=1)
        lose_batches(session, [planned], max_losses=1, now=after(1))
        claimed = claimed_batch(session, job_id, num_problems=1)
        lose_batches(session, [claimed.id], now=after(2))
        (problem,) = session.scalars(select(Problem).where(Problem.job_id == job_id))
        assert (problem.state, problem.num_losses) == (ProblemState.PENDING, 0)
