"""The snapshot counts what is live and leaves the rest out."""

from dataclasses import asdict
from functools import partial

import pytest
from sqlalchemy import update

from db.batches import mark_sent
from db.branches import insert_branches
from db.claims import claim_batch
from db.gauges import read_gauges
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT, create_tenant
from db.models import Worker
from db.problems import answer_problems
from db.refusals import insert_refusal
from db.session import SessionFactory
from db.snapshot import read_snapshot
from db.workers import heartbeat, list_workers, models, register_worker, stop_worker
from scheduler.core.decisions import Rejected, RejectReason
from scheduler.core.snapshot import ARRIVAL_WINDOW_S, LEAST_WINDOW_S, NO_ARRIVALS
from scheduler.core.states import BatchState, JobState
from tests.factories import (
    NOW,
    after,
    answer_profile,
    branch_row,
    claimed_batch,
    engine_spec,
    latency_profile,
    new_job,
    plan,
    problem_answer,
    stored_batch,
    stored_job,
    stored_worker,
    unfinished_row,
)


def test_an_empty_store_gives_an_empty_snapshot(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        snapshot = read_snapshot(session, NOW)
    assert (snapshot.jobs, snapshot.batches, snapshot.workers) == ((), (), ())


def test_a_job_is_seen_as_counts_with_its_plan(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=6, min_accuracy=0.8)
        claimed = claimed_batch(session, job_id, num_problems=3)
        answers = [problem_answer(claimed.problems[0].id)]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        (job,) = read_snapshot(session, after(1)).jobs
    assert (job.id, job.state, job.deadline_at) == (job_id, JobState.RUNNING, after(60))
    assert (job.num_pending, job.num_in_flight) == (3, 2)
    assert (job.plan, job.min_accuracy) == (plan(), 0.8)


def test_branches_that_follow_one_another_count_as_many_as_run_at_once(
    sessions: SessionFactory,
) -> None:
    now = after(0)
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=3)
        batch_id = stored_batch(session, job_id, num_branches=2, max_branches=4)
        claimed = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=now)
        assert claimed is not None
        _, begun, last = (problem.id for problem in claimed.problems)
        rows = [branch_row(begun, i) for i in range(2)] + [branch_row(last, i) for i in range(3)]
        insert_branches(session, batch_id=batch_id, epoch=1, rows=rows)
        (batch,) = read_snapshot(session, after(1)).batches
    assert batch.num_open_branches == 2 + 2 + 1


def test_a_batch_counts_branches_that_have_yet_to_finish(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=5)
        claimed = claimed_batch(session, job_id, num_problems=3)
        answered, begun, _ = (problem.id for problem in claimed.problems)
        rows = [
            branch_row(answered, 0),
            branch_row(begun, 0),
            branch_row(begun, 1),
            unfinished_row(begun, 2),
        ]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        answers = [problem_answer(answered)]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        planned = stored_batch(session, job_id)
        mark_sent(session, [planned], now=after(1))
        first, second = read_snapshot(session, after(1)).batches
    assert (first.id, first.state, first.lease_owner) == (claimed.id, BatchState.CLAIMED, "w1-1")
    assert (first.lease_expires_at, first.deadline_at) == (after(4), after(60))
    assert (first.num_open_problems, first.num_open_branches) == (2, 2 + 4)
    assert (second.id, second.state, second.sent_at) == (planned, BatchState.PLANNED, after(1))
    assert (second.num_open_problems, second.num_open_branches) == (2, 8)


def test_a_cancelling_job_is_left_out_but_its_batches_are_not(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        claimed_batch(session, job_id)
        request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        snapshot = read_snapshot(session, NOW)
    assert snapshot.jobs == ()
    assert [batch.job_id for batch in snapshot.batches] == [job_id]


def test_a_worker_round_trips_with_its_profiles(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_worker(session)
        (worker,) = read_snapshot(session, after(1)).workers
    assert (worker.name, worker.incarnation, worker.heartbeat_at) == ("w1", "w1-1", NOW)
    assert worker.spec == engine_spec()
    assert worker.latency == latency_profile()
    assert worker.answers == answer_profile()


def test_stopped_and_long_silent_workers_are_left_out(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        for name in ("alive", "stopped", "silent"):
            stored_worker(session, name, incarnation=f"{name}-1")
        heartbeat(
            session, name="alive", incarnation="alive-1", num_running_branches=3, now=after(3500)
        )
        stop_worker(session, name="stopped", incarnation="stopped-1", now=after(1))
        snapshot = read_snapshot(session, after(3601))
        assert [worker.name for worker in snapshot.workers] == ["alive"]
        listed = {worker.name: worker.num_running_branches for worker in list_workers(session)}
    assert listed == {"alive": 3, "silent": 0, "stopped": 0}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("spec", asdict(engine_spec()) | {"invented": 1}),
        ("spec", {}),
        ("latency_profile", {}),
        ("answer_profile", {"weights": 1}),
    ],
)
def test_a_worker_of_another_release_stops_no_other(
    sessions: SessionFactory, column: str, value: dict[str, object]
) -> None:
    with sessions.begin() as session:
        stored_worker(session, "readable")
        stored_worker(session, "stranger")
        session.execute(update(Worker).where(Worker.name == "stranger").values({column: value}))
        snapshot = read_snapshot(session, NOW)
    assert [worker.name for worker in snapshot.workers] == ["readable"]


def test_a_new_incarnation_takes_the_name_over(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        beat = partial(heartbeat, session, name="w1", num_running_branches=1)
        stored_worker(session)
        assert beat(incarnation="w1-1", now=after(1))
        assert stop_worker(session, name="w1", incarnation="w1-1", now=after(2))
        assert not beat(incarnation="w1-1", now=after(3))
        stored_worker(session, incarnation="w1-2", now=after(4))
        assert not beat(incarnation="w1-1", now=after(5))
        assert not stop_worker(session, name="w1", incarnation="w1-1", now=after(5))
        assert beat(incarnation="w1-2", now=after(6))


def test_models_are_those_that_any_worker_served(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        for name, model in (("w1", "small"), ("w2", "large"), ("w3", "small")):
            register_worker(
                session,
                name=name,
                incarnation=f"{name}-1",
                spec=engine_spec(model=model),
                latency=latency_profile(model=model),
                answers=answer_profile(model=model),
                now=NOW,
            )
        stop_worker(session, name="w2", incarnation="w2-1", now=after(1))
        assert models(session) == ["large", "small"]


def test_gauges_count_what_is_live(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        running = stored_job(session, num_problems=5)
        stored_job(session, num_problems=2)
        claimed_batch(session, running, num_problems=3)
        gauges = read_gauges(session, worker_timeout_s=5.0, now=after(2))
        assert gauges.num_live_jobs == {"queued": 1, "running": 1}
        assert (gauges.num_pending_problems, gauges.num_workers) == (4, 1)
        assert gauges.min_slack_s == 50.0
        assert read_gauges(session, worker_timeout_s=1.0, now=after(2)).num_workers == 0


def test_views_that_did_not_change_are_the_same_objects(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        still, moving = stored_job(session), stored_job(session)
        first = {job.id: job for job in read_snapshot(session, NOW).jobs}
        claimed_batch(session, moving, num_problems=1)
        second = read_snapshot(session, after(1))
        third = read_snapshot(session, after(2))
    jobs = {job.id: job for job in second.jobs}
    assert jobs[still] is first[still]
    assert jobs[moving] != first[moving]
    assert all(a is b for a, b in zip(second.batches, third.batches, strict=True))


def test_what_a_worker_told_is_parsed_once_until_it_changes(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_worker(session, "w1")
        stored_worker(session, "w2")
    with sessions.begin() as session:
        before = {worker.name: worker for worker in read_snapshot(session, NOW).workers}
    with sessions.begin() as session:
        slower = latency_profile(base_s=0.02).to_dict()
        session.execute(update(Worker).where(Worker.name == "w2").values(latency_profile=slower))
        session.execute(update(Worker).values(heartbeat_at=after(1)))
    with sessions.begin() as session:
        now = {worker.name: worker for worker in read_snapshot(session, after(1)).workers}
    assert now["w1"].heartbeat_at == after(1)
    assert now["w1"].latency is before["w1"].latency
    assert all(now[name].spec is before[name].spec for name in now)
    assert all(now[name].answers is before[name].answers for name in now)
    assert now["w2"].latency == latency_profile(base_s=0.02)


def test_a_greedy_job_is_planned_with_one_branch(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_job(session, temperature=0.0, max_branches=16)
        stored_job(session, temperature=0.1, max_branches=16)
        views = read_snapshot(session, NOW).jobs
    assert sorted(job.max_branches for job in views) == [1, 16]


def test_tenants_share_by_weight(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        heavy = create_tenant(session, name="heavy", weight=3.0, now=NOW)
        stored_job(session)
        snapshot = read_snapshot(session, NOW)
    assert sum(share for _, share in snapshot.tenant_shares) == pytest.approx(1.0)
    [job] = snapshot.jobs
    assert snapshot.share_of(heavy) == pytest.approx(3 * job.tenant_share)


def test_arrivals_count_recent_problems_refused_ones_too(sessions: SessionFactory) -> None:
    refused = Rejected(RejectReason.DEADLINE_INFEASIBLE, earliest_finish_s=9.0)
    with sessions.begin() as session:
        stored_job(session, num_problems=6)
        insert_refusal(session, new_job(num_problems=18), refused)
        insert_refusal(session, new_job(num_problems=5, deadline_at=after(700.0)), refused)
        first, soon, later = (
            read_snapshot(session, after(s))
            for s in (1.0, ARRIVAL_WINDOW_S / 2, ARRIVAL_WINDOW_S + 5.0)
        )
    ((model, arrivals),) = first.arrivals
    assert arrivals.numbers == ((60.0, 24), (700.0, 5))
    assert arrivals.promised == ((60.0, 6),)
    assert arrivals.problems_per_s == 29 / LEAST_WINDOW_S[1]
    assert soon.arrivals_of(model).problems_per_s == pytest.approx(29 / (ARRIVAL_WINDOW_S / 2))
    assert first.arrivals_of("another") == NO_ARRIVALS
    assert later.arrivals == ()
