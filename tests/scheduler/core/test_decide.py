"""One tick: rescue, expiry, plans, batches."""

import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import columns, menus
from scheduler.core.candidates import Candidates
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Decisions, LossReason, LostBatch, PlanFailure, RiskReason
from scheduler.core.fleet import Fleet
from scheduler.core.offers import all_candidates
from scheduler.core.plan import Plan
from scheduler.core.snapshot import BatchView, JobView, Snapshot, WorkerView
from scheduler.core.states import BatchState, JobState
from tests.scheduler.core.worlds import NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()


def test_an_empty_world_needs_nothing() -> None:
    assert decide(snapshot(workers=()), CONFIG) == Decisions()


def test_a_new_job_is_planned_and_handed_out() -> None:
    decisions = decide(snapshot((job(),)), CONFIG)
    [planned] = decisions.plans
    assert planned.job_id == "job_1"
    assert planned.forecast.finish_p95_s <= 59.5
    assert decisions.new_batches
    assert all(new.plan == planned.plan for new in decisions.new_batches)


def test_a_stored_plan_that_still_fits_is_kept() -> None:
    planned = decide(snapshot((job(),)), CONFIG).plans[0].plan
    later = job(plan=planned, num_pending=36, deadline_s=58.0)
    decisions = decide(snapshot((later,)), CONFIG)
    assert decisions.plans == ()
    assert {new.plan for new in decisions.new_batches} == {planned}


def test_a_stored_plan_that_no_longer_fits_is_replaced() -> None:
    stored = decide(snapshot((job(deadline_s=600.0),)), CONFIG).plans[0].plan
    squeezed = job(plan=stored, deadline_s=20.0)
    [planned] = decide(snapshot((squeezed,)), CONFIG).plans
    assert planned.plan.num_branches < stored.num_branches


def test_a_job_short_of_time_still_gets_a_plan_and_keeps_it() -> None:
    late = job(deadline_s=4.0, num_pending=200)
    first = decide(snapshot((late,)), CONFIG)
    [planned] = first.plans
    assert first.new_batches
    again = decide(snapshot((replace(late, plan=planned.plan),)), CONFIG)
    assert again.plans == ()


def test_a_job_whose_deadline_passed_expires_and_gets_nothing_more() -> None:
    decisions = decide(snapshot((job(deadline_s=0.0), job("b", deadline_s=0.3))), CONFIG)
    assert decisions.expired_jobs == ("job_1",)
    assert decisions.new_batches == ()
    assert decisions.plans == ()


def test_a_job_that_is_being_cancelled_gets_nothing_more() -> None:
    decisions = decide(
        snapshot(
            (job(state=JobState.CANCELLING), job("b", deadline_s=-1.0, state=JobState.CANCELLING))
        ),
        CONFIG,
    )
    assert decisions == Decisions()


def test_a_job_without_workers_waits() -> None:
    for world in (snapshot((job(),), workers=()), snapshot((job(model="other"),))):
        decisions = decide(world, CONFIG)
        assert [risk.reason for risk in decisions.risks] == [RiskReason.NO_WORKER]
        assert replace(decisions, risks=()) == Decisions()


@pytest.mark.parametrize(
    ("lost", "workers", "reason"),
    [
        pytest.param(batch(lease_s=-0.1), (worker(),), LossReason.LEASE_OVER, id="lease over"),
        pytest.param(
            batch(lease_owner="old", lease_s=-0.1),
            (worker(),),
            LossReason.WORKER_RESTARTED,
            id="worker restarted",
        ),
        pytest.param(batch(), (), LossReason.WORKER_GONE, id="worker unknown"),
        pytest.param(
            batch(lease_s=-0.1),
            (worker(heartbeat_at=NOW - timedelta(seconds=9)),),
            LossReason.WORKER_GONE,
            id="worker silent",
        ),
        pytest.param(
            batch(state=BatchState.PLANNED), (), LossReason.WORKER_GONE, id="planned for nobody"
        ),
        pytest.param(
            batch(state=BatchState.PLANNED),
            (worker(model="another"),),
            LossReason.MODEL_CHANGED,
            id="worker changed its model",
        ),
        pytest.param(
            batch(state=BatchState.PLANNED, num_open_problems=0, num_open_branches=0),
            (worker(),),
            LossReason.NOTHING_OPEN,
            id="planned for a job that has ended",
        ),
    ],
)
def test_a_batch_that_nobody_works_on_is_given_up_and_says_why(
    lost: BatchView, workers: tuple[WorkerView, ...], reason: LossReason
) -> None:
    decisions = decide(snapshot((), (lost,), workers), CONFIG)
    assert decisions.lost_batches == (LostBatch(1, reason),)
    assert decisions.resend_batches == ()


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(batch(), id="claimed and leased"),
        pytest.param(
            batch(state=BatchState.PLANNED, sent_s=-1.0), id="on its way, worker restarted or not"
        ),
    ],
)
def test_a_batch_in_good_hands_is_left_alone(kept: BatchView) -> None:
    assert decide(snapshot((), (kept,)), CONFIG) == Decisions()


@pytest.mark.parametrize("sent_s", [None, -2.0, -60.0])
def test_a_batch_whose_message_seems_lost_is_sent_again(sent_s: float | None) -> None:
    unheard = batch(state=BatchState.PLANNED, sent_s=sent_s)
    assert decide(snapshot((), (unheard,)), CONFIG).resend_batches == (1,)


def test_a_silent_worker_gets_no_batch() -> None:
    silent = worker("w2", heartbeat_at=NOW - timedelta(seconds=9))
    decisions = decide(snapshot((job(),), (), (worker("w1"), silent)), CONFIG)
    assert {new.worker_name for new in decisions.new_batches} == {"w1"}


def test_models_do_not_share_workers() -> None:
    workers = (worker("a"), worker("b", model="y"))
    decisions = decide(snapshot((job("j1"), job("j2", model="y")), (), workers), CONFIG)
    assert {(new.job_id, new.worker_name) for new in decisions.new_batches} == {
        ("j1", "a"),
        ("j2", "b"),
    }


worlds = st.builds(
    lambda jobs, batches, workers: Snapshot(
        NOW,
        tuple(
            job(
                f"job_{i}",
                deadline_s=deadline,
                num_pending=n,
                state=state,
                plan=Plan(4, 2, 1000, 4) if has_plan else None,
            )
            for i, (deadline, n, state, has_plan) in enumerate(jobs)
        ),
        tuple(
            batch(
                i,
                worker_name=f"w{name}",
                lease_s=lease_s,
                num_open_branches=n,
                state=BatchState.CLAIMED if is_claimed else BatchState.PLANNED,
            )
            for i, (name, lease_s, n, is_claimed) in enumerate(batches)
        ),
        tuple(
            worker(f"w{i}", rows=rows, heartbeat_at=NOW - timedelta(seconds=silent_s))
            for i, (rows, silent_s) in enumerate(workers)
        ),
    ),
    jobs=st.lists(
        st.tuples(
            st.floats(-5.0, 300.0),
            st.integers(0, 200),
            st.sampled_from([JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING]),
            st.booleans(),
        ),
        max_size=5,
    ),
    batches=st.lists(
        st.tuples(st.integers(0, 3), st.floats(-2.0, 4.0), st.integers(1, 60), st.booleans()),
        max_size=10,
    ),
    workers=st.lists(
        st.tuples(st.sampled_from([8, 32, 128]), st.sampled_from([0.5, 20.0])), max_size=3
    ),
)


@settings(max_examples=80, deadline=None)
@given(world=worlds)
def test_a_tick_respects_jobs_and_workers(world: Snapshot) -> None:
    decisions = decide(world, CONFIG)
    jobs = {view.id: view for view in world.jobs}
    alive = {w.name for w in world.workers if NOW - w.heartbeat_at <= timedelta(seconds=5)}
    lost = {lost.batch_id for lost in decisions.lost_batches}
    handed_out: dict[str, int] = {}
    for new in decisions.new_batches:
        handed_out[new.job_id] = handed_out.get(new.job_id, 0) + new.num_problems
        assert new.worker_name in alive
        assert new.job_id not in decisions.expired_jobs
        assert jobs[new.job_id].state is not JobState.CANCELLING
    for job_id, count in handed_out.items():
        assert count <= jobs[job_id].num_pending
    for name in alive:
        mine = [b for b in decisions.new_batches if b.worker_name == name]
        old = [b for b in world.batches if b.worker_name == name and b.id not in lost]
        assert not mine or len(mine) + len(old) <= CONFIG.max_batches_per_worker
    assert not lost & set(decisions.resend_batches)


@settings(max_examples=50, deadline=None)
@given(world=worlds, seed=st.integers(0, 10_000))
def test_the_order_of_the_snapshot_does_not_matter(world: Snapshot, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def shuffled_jobs(items: tuple[JobView, ...]) -> tuple[JobView, ...]:
        return tuple(items[i] for i in rng.permutation(len(items)))

    shuffled = Snapshot(
        world.now,
        shuffled_jobs(world.jobs),
        tuple(world.batches[i] for i in rng.permutation(len(world.batches))),
        tuple(world.workers[i] for i in rng.permutation(len(world.workers))),
    )
    assert decide(world, CONFIG) == decide(shuffled, CONFIG)


def test_a_hundred_jobs_are_decided_quickly() -> None:
    rng = np.random.default_rng(0)
    jobs = tuple(
        job(
            f"job_{i}",
            deadline_s=float(rng.uniform(20, 3000)),
            num_pending=int(rng.integers(5, 300)),
        )
        for i in range(100)
    )
    world = snapshot(jobs, (), tuple(worker(f"w{i}", rows=64) for i in range(4)))
    decide(world, CONFIG)
    started = time.process_time()
    decide(world, CONFIG)
    # CPU time, so that a busy machine does not matter: about 40 ms on a slow core.
    assert time.process_time() - started < 0.2


def test_a_job_that_cannot_be_planned_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(
        fleet: Fleet, jobs: list[JobView], config: SchedulerConfig, others: list[float]
    ) -> list[Candidates]:
        if any(one.max_tokens == 13 for one in jobs):
            raise ZeroDivisionError("no such length")
        return all_candidates(fleet, jobs, config, others)

    monkeypatch.setattr(menus, "all_candidates", failing)
    columns.forget()
    world = snapshot((job("good"), job("bad", max_tokens=13), job("over", deadline_s=-1.0)))
    decisions = decide(world, CONFIG)
    assert [planned.job_id for planned in decisions.plans] == ["good"]
    assert {new.job_id for new in decisions.new_batches} == {"good"}
    assert decisions.expired_jobs == ("over",)
    [failure] = decisions.plan_failures
    assert failure == PlanFailure("bad", "ZeroDivisionError: no such length")
