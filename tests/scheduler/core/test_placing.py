from dataclasses import replace
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.candidates import WIDEST
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.fleet import Fleet
from scheduler.core.outlook import packed
from scheduler.core.placing import place
from scheduler.core.settling import settle
from scheduler.core.snapshot import JobView, Snapshot
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.slack import holds
from tests.scheduler.core.worlds import NOW, batch, job, worker

CONFIG = SchedulerConfig()
FEW = replace(CONFIG, num_reviewed=1)


def crowd(rows: list[tuple[float, int, bool]], num_workers: int) -> list[JobView]:
    """Jobs (seconds until due, problems, is new), all but new ones with a plan in force."""
    jobs = [job(f"j{i}", deadline_s=due, num_pending=n) for i, (due, n, _) in enumerate(rows)]
    workers = tuple(worker(f"w{i}") for i in range(num_workers))
    planned = decide(Snapshot(NOW, tuple(jobs), (), workers), CONFIG).plans
    plans = {one.job_id: one.plan for one in planned}
    return [
        one if is_new else replace(one, plan=plans.get(one.id))
        for one, (_, _, is_new) in zip(jobs, rows, strict=True)
    ]


def settled(bounds: Bounds) -> Bounds:
    upgrade(bounds)
    settle(bounds)
    return bounds


rows_strategy = st.lists(
    st.tuples(st.floats(5.0, 200.0), st.integers(1, 80), st.booleans()), min_size=1, max_size=10
)


def test_a_crowd_keeps_its_plans_and_has_its_turn() -> None:
    jobs = crowd([(200.0 + 5.0 * i, 2 + i % 7, False) for i in range(30)], num_workers=2)
    fleet = Fleet.of([worker("w0"), worker("w1")])
    num_reviewed, reviewed = [], np.zeros(30, dtype=bool)
    for tick in range(100):
        now = NOW + timedelta(milliseconds=500 * tick)
        bounds = settled(place(Bounds(fleet, jobs, [], now, CONFIG), num_reviewed=3))
        stays = ~bounds.is_open
        assert (bounds.chosen[stays] == bounds.stored[stays]).all()
        assert holds(bounds)
        num_reviewed.append(int(bounds.is_open.sum()))
        reviewed |= bounds.is_open
    assert reviewed.all()
    assert 2.0 < np.mean(num_reviewed) < 4.5


def test_a_new_job_never_waits_for_its_turn() -> None:
    rows = [(200.0 + 5.0 * i, 3, i == 7) for i in range(20)]
    world = Snapshot(NOW, tuple(crowd(rows, num_workers=2)), (), (worker("w0"), worker("w1")))
    assert "j7" in {planned.job_id for planned in decide(world, FEW).plans}


@settings(max_examples=60, deadline=None)
@given(rows=rows_strategy, num_workers=st.integers(1, 3), seed=st.integers(0, 1000))
def test_few_reviews_keep_every_promise_that_a_review_of_all_keeps(
    rows: list[tuple[float, int, bool]], num_workers: int, seed: int
) -> None:
    jobs = crowd(rows, num_workers)
    now = NOW + timedelta(milliseconds=seed)
    fleet = Fleet.of([worker()])  # workers are gone since the plans were made
    everyone = place(Bounds(fleet, jobs, [], now, CONFIG))
    some = place(Bounds(fleet, jobs, [], now, CONFIG), num_reviewed=1)
    assert (some.chosen != LATE)[everyone.chosen != LATE].all()
    assert holds(some)
    assert holds(settled(some))


@settings(max_examples=40, deadline=None)
@given(rows=rows_strategy, seed=st.integers(0, 1000))
def test_the_order_of_jobs_does_not_matter_when_few_are_reviewed(
    rows: list[tuple[float, int, bool]], seed: int
) -> None:
    world = Snapshot(NOW, tuple(crowd(rows, num_workers=2)), (), (worker("w0"), worker("w1")))
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = replace(world, jobs=tuple(world.jobs[index] for index in order))
    assert decide(world, FEW) == decide(shuffled, FEW)


def test_behind_other_work_no_job_is_saved_by_a_wide_plan() -> None:
    fleet = Fleet.of([worker(rows=64)])
    held = [batch(deadline_s=100.0, num_open_branches=64)]
    found = []
    for deadline_s in np.arange(2.0, 12.0, 0.5).tolist():
        jobs = [job(deadline_s=deadline_s, num_pending=4)]
        bounds = place(Bounds(fleet, jobs, held, NOW, CONFIG))
        now = packed(bounds, 0)
        assert now.plan.num_branches <= (WIDEST if now.is_in_time else 1)
        found.append((now.is_in_time, bool(bounds.fits(0, bounds.ahead_s(0)).any())))
    assert (False, True) in found, "some wide plan would fit where no narrow one does"
    assert found[-1] == (True, True)
