"""One tick on a real store: read, decide, write, commit, send. Only the broker is recorded."""

from datetime import datetime

import pytest
from sqlalchemy import func, select

from db.batches import finish_batch
from db.branches import insert_branches
from db.claims import claim_batch
from db.events import list_events
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.models import Batch, Job, Problem
from db.problems import answer_problems
from db.progress import job_progress
from db.session import SessionFactory
from db.workers import heartbeat
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import (
    Decisions,
    JobPlanned,
    LossReason,
    LostBatch,
    NewBatch,
    PlanFailure,
)
from scheduler.core.snapshot import Snapshot
from scheduler.core.states import JobState
from scheduler.tick import Scheduler
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    forecast,
    plan,
    problem_answer,
    stored_batch,
    stored_job,
    stored_worker,
)


class Broker:
    """Records messages, or refuses them while it is down."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, int]] = []
        self.is_down = False

    def send(self, worker_name: str, batch_id: int) -> bool:
        """Take a message."""
        if not self.is_down:
            self.messages.append((worker_name, batch_id))
        return not self.is_down


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def scheduler(sessions: SessionFactory, broker: Broker) -> Scheduler:
    return Scheduler(sessions, broker.send, SchedulerConfig())


def _deciding(sessions: SessionFactory, broker: Broker, decisions: Decisions) -> Scheduler:
    """A scheduler that decides this, whatever it reads."""

    def policy(_snapshot: Snapshot, _config: SchedulerConfig) -> Decisions:
        return decisions

    return Scheduler(sessions, broker.send, SchedulerConfig(), policy=policy)


def _work_off(sessions: SessionFactory, batch_id: int, now: datetime) -> None:
    """Do what a worker does with a batch, at once."""
    with sessions.begin() as session:
        claimed = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=now)
        assert claimed is not None
        rows = [
            branch_row(problem.id, index, finished_at=now)
            for problem in claimed.problems
            for index in range(claimed.plan.num_branches)
        ]
        answers = [problem_answer(problem.id, finished_at=now) for problem in claimed.problems]
        lease = {"batch_id": batch_id, "epoch": claimed.epoch}
        assert insert_branches(session, rows=rows, **lease)
        assert answer_problems(session, answers=answers, **lease)
        assert finish_batch(session, now=now, **lease)


def test_a_job_runs_to_its_end_over_ticks(
    sessions: SessionFactory, scheduler: Scheduler, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=40)
        stored_worker(session)
    for tick in range(60):
        now = after(0.5 * tick)
        with sessions.begin() as session:
            heartbeat(session, name="w1", incarnation="w1-1", num_running_branches=0, now=now)
        scheduler.tick(now)
        while broker.messages:
            worker_name, batch_id = broker.messages.pop()
            assert worker_name == "w1"
            _work_off(sessions, batch_id, now)
        with sessions() as session:
            job = session.get_one(Job, job_id)
        if job.finished_at is not None:
            break
    with sessions() as session:
        assert (job.state, job_progress(session, job_id).answered) == ("completed", 40)
        kinds = [event.kind for event in list_events(session, job_id)]
    assert kinds[0] == "job.queued"
    assert kinds[-1] == "job.completed"
    assert kinds.count("batch.planned") == kinds.count("batch.done") > 0


def test_plans_are_stored_before_the_batches_that_carry_them(
    sessions: SessionFactory, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        stored_worker(session)
    wide = plan(num_branches=9)
    decisions = Decisions(
        plans=(JobPlanned(job_id, wide, forecast(finish_p50_s=33.0)),),
        new_batches=(NewBatch(job_id, "w1", 2, wide), NewBatch(job_id, "w1", 9, wide)),
    )
    _deciding(sessions, broker, decisions).tick(NOW)
    with sessions() as session:
        batches = session.scalars(select(Batch).order_by(Batch.id)).all()
        assert [(batch.num_problems, batch.num_branches) for batch in batches] == [(2, 9), (2, 9)]
        assert [batch.sent_at for batch in batches] == [NOW, NOW]
        assert set(session.scalars(select(Problem.predicted_finish_at))) == {after(33)}
    assert broker.messages == [("w1", batch.id) for batch in batches]


def test_a_new_batch_without_pending_problems_is_not_sent(
    sessions: SessionFactory, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        stored_batch(session, job_id)
    decisions = Decisions(new_batches=(NewBatch(job_id, "w1", 4, plan()),))
    _deciding(sessions, broker, decisions).tick(NOW)
    assert broker.messages == []


def test_a_batch_that_the_broker_did_not_take_is_sent_by_a_later_tick(
    sessions: SessionFactory, scheduler: Scheduler, broker: Broker
) -> None:
    broker.is_down = True
    with sessions.begin() as session:
        stored_job(session)
        stored_worker(session)
    scheduler.tick(NOW)
    with sessions() as session:
        batch_ids = session.scalars(select(Batch.id).where(Batch.sent_at.is_(None))).all()
    assert batch_ids
    assert broker.messages == []
    broker.is_down = False
    scheduler.tick(after(0.5))
    assert broker.messages == [("w1", batch_id) for batch_id in batch_ids]
    with sessions() as session:
        assert set(session.scalars(select(Batch.sent_at))) == {after(0.5)}


def test_a_message_that_nobody_claims_is_sent_again(
    sessions: SessionFactory, scheduler: Scheduler, broker: Broker
) -> None:
    with sessions.begin() as session:
        stored_job(session)
        stored_worker(session)
    scheduler.tick(NOW)
    sent = list(broker.messages)
    scheduler.tick(after(1))
    assert broker.messages == sent
    scheduler.tick(after(2.5))
    assert broker.messages == sent + sent


def test_work_of_a_silent_worker_goes_to_another(
    sessions: SessionFactory, scheduler: Scheduler, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        lost = claimed_batch(session, job_id)
        row = branch_row(lost.problems[0].id)
        insert_branches(session, batch_id=lost.id, epoch=1, rows=[row])
        stored_worker(session, "w2", incarnation="w2-1", now=after(10))
    scheduler.tick(after(10))
    scheduler.tick(after(10.1))
    assert broker.messages
    assert {worker_name for worker_name, _ in broker.messages} == {"w2"}
    with sessions.begin() as session:
        assert session.get_one(Batch, lost.id).state == "lost"
        events = list_events(session, job_id, kinds=["batch.lost"])
        assert [event.data["reason"] for event in events] == ["worker_gone"]
        _, batch_id = broker.messages[0]
        again = claim_batch(session, batch_id=batch_id, owner="w2-1", lease_s=4.0, now=after(11))
        assert again is not None
        assert [branch.branch_index for branch in again.problems[0].finished] == [0]


def test_the_deadline_ends_a_job_in_one_tick(
    sessions: SessionFactory, scheduler: Scheduler
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        claimed = claimed_batch(session, job_id)
        row = branch_row(claimed.problems[1].id)
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=[row])
    scheduler.tick(after(60))
    with sessions() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.finished_at) == ("expired", after(60))
        progress = job_progress(session, job_id)
        assert session.get_one(Batch, claimed.id).state in ("lost", "cancelled")
    assert (progress.answered, progress.degraded, progress.expired) == (1, 1, 1)


def test_a_cancelled_job_ends_with_the_next_tick(
    sessions: SessionFactory, scheduler: Scheduler, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        stored_worker(session)
        request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
    scheduler.tick(after(1))
    with sessions() as session:
        assert session.get_one(Job, job_id).state == "cancelled"
        assert session.scalars(select(func.count()).select_from(Batch)).one() == 0
    assert broker.messages == []


def test_decisions_on_an_outdated_snapshot_change_nothing(
    sessions: SessionFactory, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        batch_id = stored_batch(session, job_id)
    _work_off(sessions, batch_id, after(1))
    decisions = Decisions(
        lost_batches=(LostBatch(batch_id, LossReason.LEASE_OVER),),
        plans=(JobPlanned(job_id, plan(num_branches=1), forecast()),),
        new_batches=(NewBatch(job_id, "w1", 1, plan()),),
    )
    scheduler = _deciding(sessions, broker, decisions)
    for second in (2, 61):
        scheduler.tick(after(second))
    with sessions() as session:
        assert session.get_one(Batch, batch_id).state == "done"
        assert session.get_one(Job, job_id).state == "completed"
        assert job_progress(session, job_id).answered == 1
    assert broker.messages == []


def test_a_job_that_cannot_be_planned_fails_after_some_tries(
    sessions: SessionFactory, broker: Broker
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
    failing = Decisions(plan_failures=(PlanFailure(job_id, "ValueError: no such length"),))
    scheduler = _deciding(sessions, broker, failing)
    tries = SchedulerConfig().max_plan_failures
    for number in range(tries):
        with sessions() as session:
            assert session.get_one(Job, job_id).state == JobState.QUEUED
        scheduler.tick(after(0.1 * number))
    with sessions() as session:
        job = session.get_one(Job, job_id)
        errors = session.scalars(select(Problem.error).where(Problem.job_id == job_id)).all()
        kinds = [event.kind for event in list_events(session, job_id)]
    assert job.state == JobState.FAILED
    assert kinds.count("plan.failed") == tries
    assert all(error is not None and "no such length" in error for error in errors)


def test_a_deadline_at_risk_is_told_once_and_taken_back_once(
    sessions: SessionFactory, scheduler: Scheduler
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2, deadline_at=after(3600))
    for seconds in (0, 1):
        scheduler.tick(after(seconds))
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        assert (job.risk_reason, job.at_risk_since) == ("no_worker", NOW)
        stored_worker(session, now=after(2))
    for seconds in (2, 3):
        scheduler.tick(after(seconds))

    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        assert (job.risk_reason, job.at_risk_since) == (None, None)
        told = list_events(session, job_id, kinds=["job.at_risk", "job.on_track"])
        assert [(event.kind, event.at) for event in told] == [
            ("job.at_risk", NOW),
            ("job.on_track", after(2)),
        ]
        assert told[0].data["reason"] == "no_worker"


def test_a_deadline_that_no_plan_keeps_is_told_with_the_finish_that_is_predicted(
    sessions: SessionFactory, scheduler: Scheduler
) -> None:
    with sessions.begin() as session:
        stored_worker(session, now=NOW)
        job_id = stored_job(session, num_problems=500, deadline_at=after(3))
    scheduler.tick(NOW)

    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        assert job.risk_reason == "too_late"
        assert job.risk_finish_p95_at is not None
        assert job.risk_finish_p95_at > after(3)
        (told,) = list_events(session, job_id, kinds=["job.at_risk"])
        assert told.data["predicted_finish_p95_at"] == job.risk_finish_p95_at.isoformat()
        assert told.data["deadline_at"] == after(3).isoformat()
