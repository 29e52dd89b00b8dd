"""Problems with a deadline of their own on a real store: handed out, struck and ended by it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.batches import create_batch
from db.branches import insert_branches
from db.claims import ClaimedBatch, claim_batch
from db.deadlines import expire_part
from db.endings import finish_jobs
from db.events import list_events
from db.expiry import expire_job_problems
from db.gauges import read_gauges
from db.jobs import insert_job
from db.keys import ensure_local_tenant
from db.leases import renew_leases
from db.models import Batch, Job, JobPart, Problem
from db.parts import NewPart, parts_of
from db.plans import store_plan
from db.problems import insert_problems
from db.results import results_page
from db.retries import copy_left
from db.risks import forget_ended_risks, note_risk
from db.session import SessionFactory
from db.snapshot import read_snapshot
from db.workers import heartbeat
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Risk, RiskReason
from scheduler.core.states import JobState, ProblemState
from scheduler.tick import Scheduler
from tests.factories import (
    NOW,
    after,
    branch_row,
    forecast,
    new_job,
    new_problems,
    plan,
    stored_worker,
)

SOON_S, LATER_S, JOB_S = 20.0, 40.0, 60.0
PARTS = (2, 0, 1, 1, 0, 2, 0)
"""Of the problems in order of position."""


def stored(session: Session) -> str:
    """A job with two problems that are due soon, two later and three with the job."""
    ensure_local_tenant(session, now=NOW)
    parts = (NewPart(1, after(SOON_S), PARTS.count(1)), NewPart(2, after(LATER_S), PARTS.count(2)))
    job = new_job(num_problems=len(PARTS), deadline_at=after(JOB_S), parts=parts)
    admitted = Admitted(plan=plan(), forecast=forecast(), degraded=False)
    insert_job(session, job, admitted, rest=admitted, parts=[admitted, admitted])
    problems = zip(new_problems(len(PARTS)), PARTS, strict=True)
    insert_problems(session, job.id, (replace(problem, part=part) for problem, part in problems))
    return job.id


def claimed(session: Session, job_id: str, part: int, num_problems: int = 8) -> ClaimedBatch:
    """A claimed batch of a part."""
    if session.scalar(select(Batch.id).limit(1)) is None:
        stored_worker(session)
    batch_id = create_batch(
        session,
        job_id=job_id,
        worker_name="w1",
        plan=plan(),
        num_problems=num_problems,
        now=NOW,
        part=part,
    )
    assert batch_id is not None
    batch = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=NOW)
    assert batch is not None
    return batch


def states(session: Session, job_id: str) -> list[str]:
    rows = session.scalars(
        select(Problem).where(Problem.job_id == job_id).order_by(Problem.position)
    )
    return [problem.state for problem in rows]


def test_a_snapshot_has_the_parts_beside_the_rest_of_their_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        claimed(session, job_id, part=1, num_problems=1)
        snapshot = read_snapshot(session, NOW)
    rest, soon, later = snapshot.jobs
    assert [view.key for view in snapshot.jobs] == [(job_id, 0), (job_id, 1), (job_id, 2)]
    assert [view.deadline_at for view in (rest, soon, later)] == [
        after(JOB_S),
        after(SOON_S),
        after(LATER_S),
    ]
    assert [(view.num_pending, view.num_in_flight) for view in snapshot.jobs] == [
        (3, 0),
        (1, 1),
        (2, 0),
    ]
    assert [view.num_problems for view in snapshot.jobs] == [3, 2, 2]
    (batch,) = snapshot.batches
    assert batch.deadline_at == after(SOON_S)
    ((_, arrivals),) = snapshot.arrivals
    # Those of 40 and 60 seconds are of one octave.
    assert arrivals.numbers == ((SOON_S, 2), ((2 * LATER_S + 3 * JOB_S) / 5, 5))


def test_a_batch_has_problems_of_one_part_and_its_deadline(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        batches = {part: claimed(session, job_id, part) for part in (0, 1, 2)}
        positions = {
            part: [problem.position for problem in batch.problems]
            for part, batch in batches.items()
        }
        assert positions == {0: [1, 4, 6], 1: [2, 3], 2: [0, 5]}
        due = {part: batch.deadline_at for part, batch in batches.items()}
        assert due == {0: after(JOB_S), 1: after(SOON_S), 2: after(LATER_S)}
        ids = {batch.id: part for part, batch in batches.items()}
        renewed = renew_leases(session, list(ids), owner="w1-1", lease_s=4.0, now=NOW)
        assert {ids[id]: at for id, at in renewed.items()} == due
        # Where the deadline of the job becomes earlier, that one counts.
        session.get_one(Job, job_id).deadline_at = after(30)
        session.flush()
        renewed = renew_leases(session, list(ids), owner="w1-1", lease_s=4.0, now=NOW)
        assert {ids[id]: at for id, at in renewed.items()} == {
            0: after(30),
            1: after(SOON_S),
            2: after(30),
        }


def test_a_part_has_its_own_plan_forecast_and_risk(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        wide = plan(num_branches=9)
        assert store_plan(session, job_id, wide, forecast(accuracy=0.9), now=NOW, part=2)
        risk = Risk(job_id, RiskReason.TOO_LATE, 50.0, part=1)
        assert note_risk(session, risk, now=NOW)
        assert not note_risk(session, risk, now=after(1))
        assert read_gauges(session, worker_timeout_s=5.0, now=NOW).num_jobs_at_risk == 1
    with sessions() as session:
        soon, later = parts_of(session, [job_id])[job_id]
        assert (soon.num_branches, later.num_branches) == (4, 9)
        assert (soon.risk_reason, later.risk_reason) == ("too_late", None)
        assert session.get_one(Job, job_id).num_branches == 4
        told = [event.data["part_deadline_at"] for event in list_events(session, job_id)[1:]]
        assert told == [after(LATER_S).isoformat(), after(SOON_S).isoformat()]
        _, seen, changed = read_snapshot(session, NOW).jobs
        assert seen.risk is RiskReason.TOO_LATE
        assert changed.plan == wide


def test_a_deadline_of_problems_closes_these_and_no_others(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        batch, other = claimed(session, job_id, part=1), claimed(session, job_id, part=2)
        rows = [branch_row(batch.problems[0].id, 0)]
        assert insert_branches(session, batch_id=batch.id, epoch=1, rows=rows)
        assert not expire_part(session, job_id, 1, now=after(SOON_S - 1))
        assert expire_part(session, job_id, 1, now=after(SOON_S))
        assert states(session, job_id) == [
            "running",
            "pending",
            "answered",
            "expired",
            "pending",
            "running",
            "pending",
        ]
        assert session.get_one(Batch, batch.id).state == "cancelled"
        assert session.get_one(Batch, other.id).state == "claimed"
        event = list_events(session, job_id)[-1]
        assert event.kind == "deadline.struck"
        assert event.data == {
            "answered": 1,
            "expired": 1,
            "part_deadline_at": after(SOON_S).isoformat(),
        }


@pytest.mark.parametrize("late_part", [None, 0, 1])
def test_a_job_met_its_deadline_when_all_of_its_parts_did(
    sessions: SessionFactory, late_part: int | None
) -> None:
    """What a deadline of its own cut off is answered, as its job is completed, but late."""
    due_s = {0: JOB_S, 1: SOON_S, 2: LATER_S}
    with sessions.begin() as session:
        job_id = stored(session)
        for part, seconds in due_s.items():
            batch = claimed(session, job_id, part=part)
            rows = [branch_row(problem.id) for problem in batch.problems]
            assert insert_branches(session, batch_id=batch.id, epoch=1, rows=rows)
            late_s = 0.5 if part == late_part else 0.0
            expire_job_problems(session, job_id, now=after(seconds + late_s), part=part)
        assert finish_jobs(session, now=after(JOB_S + 1)) == [job_id]
        job = session.get_one(Job, job_id)
        assert (job.state, job.met_deadline) == ("completed", late_part is None)
        assert [part.met_deadline for part in parts_of(session, [job_id])[job_id]] == [
            late_part != 1,
            True,
        ]


def test_a_part_of_which_all_failed_missed_its_deadline(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        session.execute(
            update(Problem)
            .where(Problem.job_id == job_id, Problem.part > 0)
            .values(state="failed", error="made up", finished_at=NOW)
        )
        batch = claimed(session, job_id, part=0)
        rows = [branch_row(problem.id) for problem in batch.problems]
        assert insert_branches(session, batch_id=batch.id, epoch=1, rows=rows)
        expire_job_problems(session, job_id, now=after(1), part=0)
        assert finish_jobs(session, now=after(1)) == [job_id]
        # As for a job without parts, answers are enough for the whole.
        assert session.get_one(Job, job_id).met_deadline
        assert [part.met_deadline for part in parts_of(session, [job_id])[job_id]] == [False] * 2


def test_a_retry_is_due_as_a_whole(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        claimed(session, job_id, part=1)
        expire_part(session, job_id, 1, now=after(SOON_S))
        again = new_job(num_problems=2)
        insert_job(session, again, Admitted(plan(), forecast(), degraded=False))
        copy_left(session, source_id=job_id, job_id=again.id, degraded=False)
        due = [row.deadline_at for row in results_page(session, again.id)]
        assert due == [None, None]
        assert [row.deadline_at for row in results_page(session, job_id)] == [
            {1: after(SOON_S), 2: after(LATER_S)}.get(part) for part in PARTS
        ]


def test_ticks_hand_out_the_nearest_first_and_end_each_part_at_its_deadline(
    sessions: SessionFactory,
) -> None:
    """Nobody answers anything, so everything ends by deadlines."""
    sent: list[int] = []

    def send(_worker_name: str, batch_id: int) -> bool:
        sent.append(batch_id)
        return True

    scheduler = Scheduler(sessions, send, SchedulerConfig())
    with sessions.begin() as session:
        job_id = stored(session)
        stored_worker(session)
    scheduler.tick(NOW)
    with sessions() as session:
        parts = session.scalars(select(Batch.part).order_by(Batch.id)).all()
        assert sent
        assert list(dict.fromkeys(parts)) == sorted(set(parts), key=[1, 2, 0].index)
    _tick_on(sessions, scheduler, [SOON_S - 1, SOON_S + 0.5])
    with sessions() as session:
        ended = [at for at, part in zip(states(session, job_id), PARTS, strict=True) if part == 1]
        assert ended == [ProblemState.EXPIRED] * 2
        assert session.get_one(Job, job_id).state == JobState.QUEUED
    _tick_on(sessions, scheduler, [LATER_S + 0.5, JOB_S + 0.5])
    with sessions() as session:
        assert session.get_one(Job, job_id).state == JobState.EXPIRED
        struck = [e.data for e in list_events(session, job_id) if e.kind == "deadline.struck"]
        assert [data.get("expired") for data in struck] == [2, 2, 3]


def test_what_has_ended_is_not_at_risk(sessions: SessionFactory) -> None:
    scheduler = Scheduler(sessions, lambda _worker, _batch: True, SchedulerConfig())
    with sessions.begin() as session:
        job_id = stored(session)
        stored_worker(session)
        for part in (0, 1, 2):
            assert note_risk(session, Risk(job_id, RiskReason.TOO_LATE, None, part), now=NOW)
    for part, still in ((1, [2]), (0, [2]), (2, [])):
        with sessions.begin() as session:
            expire_job_problems(session, job_id, now=after(1), part=part)
            forget_ended_risks(session)
        with sessions() as session:
            at_risk = [p.part for p in parts_of(session, [job_id])[job_id] if p.risk_reason]
            assert (at_risk, session.get_one(Job, job_id).risk_reason is None) == (still, part != 1)
    with sessions() as session:
        assert read_gauges(session, worker_timeout_s=5.0, now=NOW).num_jobs_at_risk == 0
    scheduler.tick(after(1))
    with sessions() as session:
        assert session.get_one(Job, job_id).finished_at is not None


def _tick_on(sessions: SessionFactory, scheduler: Scheduler, at_s: Sequence[float]) -> None:
    for seconds in at_s:
        with sessions.begin() as session:
            now = after(seconds)
            heartbeat(session, name="w1", incarnation="w1-1", num_running_branches=0, now=now)
        scheduler.tick(after(seconds))


def test_parts_go_with_their_job(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored(session)
        session.delete(session.get_one(Job, job_id))
        session.flush()
        assert session.scalars(select(JobPart)).all() == []
