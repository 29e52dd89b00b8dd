"""Handing out problems to workers."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch
from scheduler.core.dispatching import hand_out
from scheduler.core.fleet import Fleet
from scheduler.core.packed import Packed
from scheduler.core.plan import Forecast, Plan
from tests.scheduler.core.worlds import LATENCY, batch, job, worker

CONFIG = SchedulerConfig()
FORECAST = Forecast(1.0, 2.0, 0.5, 10.0)


def packed(name: str, num_pending: int, width: int, wave_size: int) -> Packed:
    plan = Plan(width, 2, 1000, wave_size)
    return Packed(job(name, num_pending=num_pending), plan, FORECAST, is_in_time=True)


def branches_by_worker(batches: list[NewBatch]) -> dict[str, int]:
    result: dict[str, int] = {}
    for new in batches:
        result[new.worker_name] = (
            result.get(new.worker_name, 0) + new.num_problems * new.plan.num_branches
        )
    return result


def test_a_worker_gets_its_rows_half_a_wave_and_what_ends_meanwhile() -> None:
    fleet = Fleet.of([worker(rows=32)])
    batches = hand_out(fleet, [packed("a", 100, 4, 4)], [], CONFIG)
    [handed_out] = branches_by_worker(batches).values()
    assert 32 + 8 < handed_out < 64
    assert [new.num_problems for new in batches[:2]] == [4, 4]
    # Of short branches many end before the next batch comes.
    brief = replace(worker(rows=32), latency=LATENCY.scaled(0.02))
    batches = hand_out(Fleet.of([brief]), [packed("a", 100, 4, 4)], [], CONFIG)
    assert branches_by_worker(batches) == {"w1": 64}


def test_open_branches_take_their_room() -> None:
    fleet = Fleet.of([worker(rows=32)])
    item = packed("a", 100, 4, 4)
    [of_idle] = branches_by_worker(hand_out(fleet, [item], [], CONFIG)).values()
    held = [batch(num_open_branches=20)]
    assert branches_by_worker(hand_out(fleet, [item], held, CONFIG)) == {"w1": of_idle - 20}


def test_a_worker_with_work_for_its_rows_waits_until_half_a_wave_fits() -> None:
    fleet = Fleet.of([worker(rows=32)])
    item = packed("a", 100, 1, 16)

    def handed_out(num_open: int, item: Packed = item) -> list[int]:
        held = [batch(num_open_branches=num_open)]
        return [new.num_problems for new in hand_out(fleet, [item], held, CONFIG)]

    waits_from = next(number for number in range(64) if not handed_out(number))
    assert 32 < waits_from < 56
    assert handed_out(waits_from - 1) == [8]
    # The last problems of a job, and what keeps rows busy, go at once.
    assert handed_out(waits_from, packed("a", 3, 1, 16)) == [3]
    assert handed_out(31)[0] == 16


def test_wide_plans_leave_no_rows_idle_while_problems_wait() -> None:
    # Half a wave is less than a problem here, so a whole one waits behind those that run.
    wide = packed("wide", num_pending=50, width=12, wave_size=1)
    batches = hand_out(Fleet.of([worker(rows=32)]), [wide], [], CONFIG)
    assert sum(b.num_problems for b in batches) * 12 >= 32


def test_a_small_job_is_spread_over_the_workers() -> None:
    fleet = Fleet.of([worker("w1"), worker("w2")])
    batches = hand_out(fleet, [packed("a", 6, 2, 8)], [], CONFIG)
    assert [(new.worker_name, new.num_problems) for new in batches] == [("w1", 3), ("w2", 3)]


def test_an_idle_worker_takes_one_problem_however_wide() -> None:
    fleet = Fleet.of([worker(rows=8)])
    [new] = hand_out(fleet, [packed("a", 3, 64, 1)], [], CONFIG)
    assert new.num_problems == 1


def test_a_wide_job_without_room_is_not_overtaken() -> None:
    fleet = Fleet.of([worker(rows=32)])
    held = [batch(num_open_branches=56)]
    jobs = [packed("wide", 3, 32, 1), packed("narrow", 3, 1, 8)]
    assert hand_out(fleet, jobs, held, CONFIG) == []


@settings(max_examples=80, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from([1, 2, 4, 8, 16, 64])), max_size=5
    ),
    rows=st.lists(st.sampled_from([4, 32, 128]), min_size=1, max_size=4),
    held=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=12),
)
def test_no_worker_is_overfilled_and_no_problem_is_handed_out_twice(
    jobs: list[tuple[int, int]], rows: list[int], held: list[tuple[int, int]]
) -> None:
    fleet = Fleet.of([worker(f"w{i}", rows=r) for i, r in enumerate(rows)])
    items = [packed(f"j{i}", n, width, 4) for i, (n, width) in enumerate(jobs)]
    live = [
        batch(i, worker_name=f"w{name}", num_open_branches=n) for i, (name, n) in enumerate(held)
    ]
    batches = hand_out(fleet, items, live, CONFIG)
    for item in items:
        given_out = sum(b.num_problems for b in batches if b.job_id == item.job.id)
        assert given_out <= item.job.num_pending
    for member in fleet.members:
        mine = [b for b in live if b.worker_name == member.name]
        new = [b for b in batches if b.worker_name == member.name]
        if new:
            assert len(mine) + len(new) <= CONFIG.max_batches_per_worker
        open_branches = sum(b.num_open_branches for b in mine)
        added = sum(b.num_problems * b.plan.num_branches for b in new)
        depth = CONFIG.queue_depth * member.spec.max_num_seqs
        assert not new or open_branches + added <= depth or (not mine and len(new) == 1)
    assert all(1 <= b.num_problems <= b.plan.wave_size for b in batches)
