"""More of anything never lowers what is forecast; order never matters; workers are not overfilled.

Branches have a price (`branch_price`), so a plan may be less accurate where it saves branches, but
by no more than their price. For one job this holds to the resolution of `accuracy_tie`. The best
plans of several jobs under more time, rows or acceptance are at least as good; the packing comes
within `GAP` of the best (`test_packing_oracle`), so a total may fall by that much and no more.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.commitments import held_tokens
from scheduler.core.config import SchedulerConfig
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.planning import plan_jobs
from scheduler.core.snapshot import BatchView, JobView, WorkerView
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.together import pack
from tests.scheduler.core.worlds import LATENCY, NOW, batch, job, worker

CONFIG = SchedulerConfig()
GAP = 0.02
prices = pytest.mark.parametrize(
    "config", [replace(CONFIG, branch_price=0.0), CONFIG], ids=["free", "priced"]
)


class Expected(NamedTuple):
    """Right answers of a job, and the price of its branches in the same unit."""

    right: float
    price: float


sets = st.lists(st.tuples(st.floats(5.0, 200.0), st.integers(1, 100)), min_size=1, max_size=6).map(
    lambda rows: [job(f"j{i}", deadline_s=s, num_pending=n) for i, (s, n) in enumerate(rows)]
)


def forecast(
    jobs: list[JobView], workers: list[WorkerView], config: SchedulerConfig
) -> dict[str, Expected]:
    """What is expected of the jobs that are in time; packing maximizes their right answers."""
    bounds = place(Bounds(Fleet.of(workers), jobs, [], NOW, config))
    upgrade(bounds)
    in_time = np.flatnonzero(bounds.chosen != LATE)
    chosen, classes = bounds.chosen[in_time], bounds.classes[in_time]
    branches = bounds.menus.row_seconds[classes, chosen] / bounds.menus.branch_cost[classes]
    per_problem = np.stack([bounds.accuracies(in_time, chosen), config.branch_price * branches])
    expected = (per_problem * bounds.table["num_pending"][in_time]).T
    return {
        bounds.jobs[i].id: Expected(*each)
        for i, each in zip(in_time.tolist(), expected.tolist(), strict=True)
    }


def assert_no_worse(
    before: dict[str, Expected], after: dict[str, Expected], num_pending: int
) -> None:
    assert set(before) <= set(after), "a job that was in time no longer is"
    tie = 1.5 * CONFIG.accuracy_tie * num_pending
    right = sum(each.right for each in before.values())
    allowed = tie if len(before) == 1 else max(tie, GAP * right)
    saved = sum(each.price - after[name].price for name, each in before.items())
    assert sum(after[name].right for name in before) >= right - allowed - max(saved, 0.0)


def pending_of(jobs: list[JobView]) -> int:
    return sum(one.num_pending for one in jobs)


def later(one: JobView, factor: float) -> JobView:
    return replace(one, deadline_at=NOW + factor * (one.deadline_at - NOW))


@prices
@settings(max_examples=60, deadline=None)
@given(jobs=sets, factor=st.floats(1.0, 3.0))
def test_more_time_never_lowers_the_forecast(
    config: SchedulerConfig, jobs: list[JobView], factor: float
) -> None:
    before = forecast(jobs, [worker()], config)
    jobs = [one for one in jobs if one.id in before]
    if jobs:
        assert_no_worse(
            forecast(jobs, [worker()], config),
            forecast([later(one, factor) for one in jobs], [worker()], config),
            pending_of(jobs),
        )


@prices
@settings(max_examples=60, deadline=None)
@given(jobs=sets, extra=st.integers(1, 4))
def test_more_workers_never_lower_the_forecast(
    config: SchedulerConfig, jobs: list[JobView], extra: int
) -> None:
    before = forecast(jobs, [worker()], config)
    jobs = [one for one in jobs if one.id in before]
    if jobs:
        more = [worker(f"w{i}") for i in range(1 + extra)]
        assert_no_worse(
            forecast(jobs, [worker()], config), forecast(jobs, more, config), pending_of(jobs)
        )


@prices
@settings(max_examples=60, deadline=None)
@given(jobs=sets, better=st.floats(1.0, 1.2))
def test_better_acceptance_never_lowers_the_forecast(
    config: SchedulerConfig, jobs: list[JobView], better: float
) -> None:
    acceptance = tuple(min(1.0, better * value) for value in LATENCY.acceptance)
    faster = worker(latency=replace(LATENCY, acceptance=acceptance))
    before = forecast(jobs, [worker()], config)
    jobs = [one for one in jobs if one.id in before]
    if jobs:
        assert_no_worse(
            forecast(jobs, [worker()], config), forecast(jobs, [faster], config), pending_of(jobs)
        )


@settings(max_examples=40, deadline=None)
@given(jobs=sets, seed=st.integers(0, 1000))
def test_order_matters_neither_for_jobs_nor_workers_nor_batches(
    jobs: list[JobView], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    workers = [worker("a", rows=16), worker("b"), worker("c", rows=64)]
    batches = [batch(i, worker_name="abc"[i % 3], num_open_branches=5 * i) for i in range(5)]

    def packed(order: np.random.Generator | None) -> object:
        def mixed(items: list[object]) -> list[object]:
            return items if order is None else [items[i] for i in order.permutation(len(items))]

        fleet = Fleet.of(mixed(list(workers)))  # type: ignore[arg-type]
        some: list[BatchView] = mixed(list(batches))  # type: ignore[assignment]
        these: list[JobView] = mixed(list(jobs))  # type: ignore[assignment]
        return pack(Bounds(fleet, these, some, NOW, CONFIG))

    assert packed(None) == packed(rng)


@pytest.mark.parametrize("kv_capacity_tokens", [2_000, 20_000, 500_000])
@settings(max_examples=40, deadline=None)
@given(jobs=sets, held=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 40)), max_size=6))
def test_no_worker_is_given_more_than_its_kv_cache_and_queue_depth(
    kv_capacity_tokens: int, jobs: list[JobView], held: list[tuple[int, int]]
) -> None:
    workers = [
        replace(one, spec=replace(one.spec, kv_capacity_tokens=kv_capacity_tokens))
        for one in (worker("w0"), worker("w1", rows=64))
    ]
    fleet = Fleet.of(workers)
    live = [
        replace(batch(i, worker_name=f"w{w}", num_open_branches=n), mean_prompt_tokens=100.0)
        for i, (w, n) in enumerate(held)
    ]
    planned = plan_jobs(fleet, jobs, live, NOW, CONFIG)
    new = hand_out(fleet, planned.in_line(), live, CONFIG)
    for member in fleet.members:
        mine = [one for one in new if one.worker_name == member.name]
        old = [one for one in live if one.worker_name == member.name]
        if not mine or (not old and len(mine) == 1 and mine[0].num_problems == 1):
            continue
        branches = sum(one.num_problems * one.plan.num_branches for one in mine)
        branches += sum(one.num_open_branches for one in old)
        tokens = sum(
            one.num_problems * one.plan.num_branches * held_tokens(fleet.pooled, one.plan, 100.0)
            for one in mine
        )
        tokens += sum(
            one.num_open_branches * held_tokens(fleet.pooled, one.plan, 100.0) for one in old
        )
        assert branches <= CONFIG.queue_depth * member.spec.max_num_seqs
        assert tokens <= CONFIG.queue_depth * kv_capacity_tokens * (1 + 1e-9)
