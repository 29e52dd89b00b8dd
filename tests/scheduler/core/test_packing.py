"""Sharing rows among jobs: demand bounds, upgrades, and an oracle for small cases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import upgrades
from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.packed import Packed
from scheduler.core.placing import place
from scheduler.core.snapshot import (
    ARRIVAL_WINDOW_S,
    NO_ARRIVALS,
    Arrivals,
    BatchView,
    JobView,
)
from scheduler.core.stopping import CUT_SHARE
from tests.scheduler.core.alone import best_plan
from tests.scheduler.core.together import pack
from tests.scheduler.core.worlds import NOW, batch, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker(rows=64)])

jobs_strategy = st.lists(
    st.tuples(st.floats(3.0, 400.0), st.integers(1, 200), st.sampled_from([0.5, 1.0, 4.0])),
    min_size=1,
    max_size=6,
).map(
    lambda rows: [
        job(f"job_{index}", deadline_s=deadline, num_pending=n, weight=weight)
        for index, (deadline, n, weight) in enumerate(rows)
    ]
)


def bounds_of(jobs: list[JobView], batches: list[BatchView] | None = None) -> Bounds:
    return place(Bounds(FLEET, jobs, batches or [], NOW, CONFIG))


def by_id(packed: list[Packed]) -> dict[str, Packed]:
    return {item.job.id: item for item in packed}


def test_one_job_gets_the_best_plan_that_fits() -> None:
    only = job(deadline_s=60.0)
    free = replace(CONFIG, branch_price=0.0)
    found = best_plan(FLEET, only, free, time_left_s=60.0)
    [packed] = pack(place(Bounds(FLEET, [only], [], NOW, free)))
    assert found is not None
    assert packed.plan == found[0]


def test_jobs_come_out_nearest_deadline_first() -> None:
    packed = pack(bounds_of([job("b", deadline_s=90.0), job("a", deadline_s=30.0)]))
    assert [item.job.id for item in packed] == ["a", "b"]


def test_a_second_job_takes_accuracy_from_the_first() -> None:
    first = job("a", deadline_s=60.0, num_pending=100)
    alone = by_id(pack(bounds_of([first])))["a"]
    both = by_id(pack(bounds_of([first, job("b", deadline_s=61.0, num_pending=100)])))
    assert both["a"].forecast.accuracy < alone.forecast.accuracy
    assert all(item.is_in_time for item in both.values())


def test_weight_moves_rows_to_the_job_that_counts_more() -> None:
    def accuracies(weight: float) -> tuple[float, float]:
        packed = by_id(
            pack(
                bounds_of(
                    [
                        job("a", deadline_s=60.0, num_pending=100),
                        job("b", deadline_s=60.0, num_pending=100, weight=weight),
                    ]
                )
            )
        )
        return packed["a"].forecast.accuracy, packed["b"].forecast.accuracy

    even_a, even_b = accuracies(1.0)
    heavy_a, heavy_b = accuracies(50.0)
    assert heavy_b >= even_b
    assert heavy_a <= even_a
    assert heavy_b > heavy_a


def test_a_late_job_gets_a_fallback_and_does_not_bind_the_others() -> None:
    packed = by_id(pack(bounds_of([job("late", deadline_s=2.0), job("b", deadline_s=120.0)])))
    assert not packed["late"].is_in_time
    assert packed["b"].is_in_time


def test_batches_due_earlier_delay_a_job_more_than_batches_due_later() -> None:
    def ahead(deadline_s: float) -> float:
        held = [batch(deadline_s=deadline_s, num_open_branches=200)]
        return bounds_of([job(deadline_s=60.0)], held).ahead_s(0)

    assert ahead(30.0) > ahead(90.0) > 0.0


def test_a_long_running_batch_holds_less_than_a_young_one() -> None:
    young = batch(num_open_branches=64)
    held = bounds_of([job()], [young]).ahead_s(0)
    assert 0.0 < held < 30.0


@settings(max_examples=60, deadline=None)
@given(jobs=jobs_strategy)
def test_every_job_in_time_finishes_within_its_bound_behind_those_before_it(
    jobs: list[JobView],
) -> None:
    packed = pack(bounds_of(jobs))
    ahead_s = 0.0
    for item in packed:
        left_s = (item.job.deadline_at - NOW).total_seconds()
        if item.is_in_time:
            assert item.forecast.finish_p95_s <= left_s - CUT_SHARE * CONFIG.reserve_s + 1e-6
            assert item.forecast.finish_p50_s >= ahead_s
            ahead_s += item.forecast.row_seconds / FLEET.rows


@settings(max_examples=40, deadline=None)
@given(jobs=jobs_strategy, seed=st.integers(0, 1000))
def test_the_order_of_jobs_does_not_matter(jobs: list[JobView], seed: int) -> None:
    shuffled = [jobs[i] for i in np.random.default_rng(seed).permutation(len(jobs))]
    assert pack(bounds_of(jobs)) == pack(bounds_of(shuffled))


@settings(max_examples=40, deadline=None)
@given(jobs=jobs_strategy)
def test_upgrading_never_loses_a_job_or_accuracy(jobs: list[JobView]) -> None:
    bounds = bounds_of(jobs)
    cheapest = bounds.chosen.copy()
    pack(bounds)
    assert ((bounds.chosen == LATE) == (cheapest == LATE)).all()
    # Plans are compared by what ends within their caps.
    index = np.flatnonzero(cheapest != LATE)
    gain = bounds.accuracies(index, bounds.chosen[index]) - bounds.accuracies(
        index, cheapest[index]
    )
    assert (gain >= -CONFIG.accuracy_tie).all()


def test_arrivals_put_a_price_on_upgrades_and_none_costs_nothing() -> None:
    def branches(num_problems: int) -> int:
        arrivals = Arrivals(ARRIVAL_WINDOW_S, ((600.0, num_problems),))
        jobs = [job(deadline_s=600.0, num_pending=10)]
        (item,) = pack(Bounds(FLEET, jobs, [], NOW, CONFIG, arrivals=arrivals))
        return item.plan.num_branches

    widths = [branches(number) for number in (0, 60, 300, 1500)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


def test_arrivals_that_leave_rows_free_cost_what_slows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def row_seconds(num_problems: int, slowing: float) -> float:
        monkeypatch.setattr(upgrades, "SLOWING", slowing)
        arrivals = Arrivals(ARRIVAL_WINDOW_S, ((600.0, num_problems),))
        jobs = [job(deadline_s=600.0, num_pending=40)]
        (item,) = pack(Bounds(FLEET, jobs, [], NOW, CONFIG, arrivals=arrivals))
        return item.forecast.row_seconds

    shares = 0.0, 1.0, 1000.0
    free, priced, dear = (row_seconds(300, share) for share in shares)
    assert free > 1.05 * priced
    assert priced > 1.05 * dear
    assert len({row_seconds(0, share) for share in shares}) == 1


def test_idle_rows_are_not_spent_on_branches_worth_less_than_their_price() -> None:
    def plan_at(price: float, min_accuracy: float | None = None) -> Packed:
        config = replace(CONFIG, branch_price=price)
        wanted = job(deadline_s=600.0, num_pending=10, min_accuracy=min_accuracy)
        (item,) = pack(Bounds(FLEET, [wanted], [], NOW, config))
        return item

    free, priced, dear = (plan_at(price) for price in (0.0, 0.003, 1.0))
    assert free.plan.num_branches > priced.plan.num_branches > dear.plan.num_branches == 1
    saved = (free.forecast.row_seconds - priced.forecast.row_seconds) / dear.forecast.row_seconds
    assert free.forecast.accuracy - priced.forecast.accuracy <= 0.003 * saved + CONFIG.accuracy_tie
    # Whatever the price, it gets what was asked for.
    wanted = (dear.forecast.accuracy + free.forecast.accuracy) / 2.0
    assert plan_at(1.0, wanted).forecast.accuracy >= wanted - CONFIG.accuracy_tie


@pytest.mark.parametrize("num_pending", [120, 30])
def test_a_jobs_own_problems_are_no_arrivals(num_pending: int) -> None:
    # Neither are those that have been answered since.
    alone = [replace(job(deadline_s=600.0, num_pending=num_pending), num_problems=120)]
    own = Arrivals.since(0.0, ((600.0, 120),))
    free, priced = (
        pack(Bounds(FLEET, alone, [], NOW, CONFIG, arrivals=arrivals))
        for arrivals in (NO_ARRIVALS, own)
    )
    assert free == priced


def test_running_branches_delay_nobody_while_rows_are_free() -> None:
    few = [batch(deadline_s=30.0, num_open_branches=8)]
    many = [batch(deadline_s=30.0, num_open_branches=FLEET.rows)]
    small = [job(deadline_s=60.0, num_pending=8)]
    assert bounds_of(small, few).ahead_s(0) == 0.0
    assert bounds_of(small, many).ahead_s(0) > 0.0


def test_what_waits_with_a_later_deadline_is_not_before_a_job() -> None:
    def ahead_s(num_branches: int) -> float:
        held = [batch(deadline_s=600.0, num_open_branches=num_branches)]
        return bounds_of([job(deadline_s=60.0, num_pending=8)], held).ahead_s(0)

    assert 0.0 < ahead_s(FLEET.rows) == ahead_s(2 * FLEET.rows)


def test_running_branches_hold_rows_until_their_deadline_at_most() -> None:
    def ahead_s(deadline_s: float) -> float:
        held = [batch(deadline_s=deadline_s, num_open_branches=FLEET.rows)]
        return bounds_of([job(deadline_s=60.0, num_pending=100)], held).ahead_s(0)

    assert ahead_s(2.0) == 2.0 < ahead_s(600.0)
