"""Stored plans stay until a change pays or is needed, and a better plan is for all that remains."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import PlanReason
from scheduler.core.fleet import Fleet
from scheduler.core.outlook import packed
from scheduler.core.placing import place
from scheduler.core.plan import Plan
from scheduler.core.settling import settle
from scheduler.core.snapshot import JobView
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.slack import holds
from tests.scheduler.core.worlds import NOW, job, snapshot, worker

CONFIG = SchedulerConfig()


def stored(one: JobView, deadline_s: float | None = None) -> JobView:
    """The job with the plan, promise and forecast that it gets alone, due then or at its own."""
    due_at = one.deadline_at if deadline_s is None else NOW + timedelta(seconds=deadline_s)
    [planned] = decide(snapshot((replace(one, deadline_at=due_at),)), CONFIG).plans
    finish_at = NOW + timedelta(seconds=planned.forecast.finish_p95_s)
    return replace(one, plan=planned.plan, promised_at=finish_at, predicted_at=finish_at)


def replanned(one: JobView) -> Plan | None:
    """The new plan of the job; None when the stored one stays."""
    plans = decide(snapshot((one,)), CONFIG).plans
    return next((planned.plan for planned in plans if planned.plan != one.plan), None)


def test_time_that_becomes_free_is_given_to_a_job_that_has_hardly_begun() -> None:
    early = replace(stored(job(deadline_s=400.0), 20.0), num_in_flight=5, promised_at=None)
    better = replanned(early)
    assert early.plan is not None
    assert better is not None
    assert better.num_branches > early.plan.num_branches


def test_the_last_problems_of_a_job_are_not_treated_better_than_the_first() -> None:
    late = replace(stored(job(deadline_s=400.0), 20.0), num_in_flight=60, promised_at=None)
    assert replanned(late) is None


def test_no_better_plan_is_chosen_beyond_the_promised_finish() -> None:
    one = stored(job(deadline_s=400.0), 20.0)
    better = replanned(one)
    assert one.promised_at is not None
    if better is not None:
        [planned] = decide(snapshot((one,)), CONFIG).plans
        promised_s = (one.promised_at - NOW).total_seconds()
        assert planned.forecast.finish_p95_s <= promised_s + 1e-6


def test_upgrades_of_one_job_do_not_move_another_past_its_promise() -> None:
    promised = stored(job("b", deadline_s=300.0), 30.0)
    world = snapshot((job("a", deadline_s=290.0, num_pending=200), promised))
    assert promised.promised_at is not None
    fleet = Fleet.of(world.workers)
    bounds = place(Bounds(fleet, world.jobs, [], NOW, CONFIG))
    index = bounds.jobs.index(promised)
    promised_s = (promised.promised_at - NOW).total_seconds()
    was_held = bounds.needed_s()[index] <= promised_s
    upgrade(bounds)
    assert not was_held or bounds.needed_s()[index] <= promised_s + 1e-6


def test_a_stored_finish_that_went_stale_is_written_anew_without_another_plan() -> None:
    one = stored(job())
    assert decide(snapshot((one,)), CONFIG).plans == ()
    assert one.predicted_at is not None
    stale = replace(one, predicted_at=one.predicted_at + timedelta(seconds=30))
    [planned] = decide(snapshot((stale,)), CONFIG).plans
    assert (planned.plan, planned.reason) == (one.plan, None)


def test_a_plan_gives_way_when_others_need_the_rows() -> None:
    rich = replace(stored(job("rich", deadline_s=60.0)), promised_at=None)
    crowd = tuple(job(f"c{i}", deadline_s=61.0, num_pending=30) for i in range(8))
    plans = {p.job_id: p for p in decide(snapshot((rich, *crowd)), CONFIG).plans}
    assert plans["rich"].reason in (PlanReason.ROWS_NEEDED, PlanReason.WOULD_BE_LATE)


def test_plans_of_a_crowd_settle_while_nothing_changes() -> None:
    config = replace(CONFIG, num_reviewed=20)
    rng = np.random.default_rng(1)
    jobs = [
        replace(
            job(f"j{i}", deadline_s=float(rng.uniform(60, 900)), num_pending=int(n)),
            tenant_id=f"tenant_{i % 3}",
            tenant_share=1 / 3,
        )
        for i, n in enumerate(rng.integers(1, 60, 150))
    ]
    workers = tuple(worker(f"w{i}") for i in range(4))
    changes = []
    for tick in range(80):
        world = replace(snapshot(tuple(jobs), (), workers), now=NOW + timedelta(milliseconds=tick))
        plans = {p.job_id: p for p in decide(world, config).plans}
        changes.append(sum(planned.reason is not None for planned in plans.values()))
        for index, one in enumerate(jobs):
            if one.id in plans:
                jobs[index] = replace(one, plan=plans[one.id].plan)
    # About 20 are reviewed in each tick; without settling, a third of them changed for ever.
    assert changes[0] == 150
    assert sum(changes[-30:]) <= 0.05 * 30 * 20


jobs_strategy = st.lists(
    st.tuples(
        st.floats(3.0, 200.0),
        st.integers(1, 100),
        st.integers(0, 60),
        st.sampled_from([None, Plan(4, 2, 1000, 4), Plan(16, 0, 2000, 1), Plan(1, 4, 300, 8)]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("num_before", [0, 40])
@settings(max_examples=40, deadline=None)
@given(rows=jobs_strategy)
def test_plans_in_force_never_break_the_bounds(
    num_before: int, rows: list[tuple[float, int, int, Plan | None, bool]]
) -> None:
    jobs = [
        replace(
            job(f"j{i}", deadline_s=due, num_pending=n, num_in_flight=running, plan=plan),
            promised_at=NOW + timedelta(seconds=0.7 * due) if promised else None,
        )
        for i, (due, n, running, plan, promised) in enumerate(rows)
    ]
    jobs += [job(f"k{i}", deadline_s=100.0 + i, num_pending=3) for i in range(num_before)]
    bounds = place(Bounds(Fleet.of([worker()]), jobs, [], NOW, CONFIG))
    in_time = bounds.chosen != LATE
    upgrade(bounds)
    assert holds(bounds)
    settle(bounds)
    assert holds(bounds)
    assert ((bounds.chosen != LATE) == in_time).all()
    assert np.isfinite(bounds.must_start_s[in_time]).all()


def test_a_plan_is_chosen_by_all_that_it_counts_and_kept_by_its_p95() -> None:
    one = job(num_pending=1, max_branches=1, deadline_s=400.0)
    fleet = Fleet.of(snapshot((one,)).workers)
    alone = Bounds(fleet, [one], [], NOW, CONFIG)
    options = alone.options(0)
    index = int((options.needed_s - options.kept_s).argmax())
    needed_s, kept_s = float(options.needed_s[index]), float(options.kept_s[index])
    plan = options.plan(index)

    def plan_within(limit_s: float, plan: Plan | None) -> Plan:
        due_at = NOW + timedelta(seconds=limit_s + CONFIG.reserve_s)
        bounds = place(
            Bounds(fleet, [replace(one, deadline_at=due_at, plan=plan)], [], NOW, CONFIG)
        )
        upgrade(bounds)
        settle(bounds)
        return packed(bounds, 0).plan

    assert plan_within(0.5 * (kept_s + needed_s), plan) == plan
    assert plan_within(0.9 * kept_s, plan) != plan
    assert plan_within(0.5 * (kept_s + needed_s), None) != plan
