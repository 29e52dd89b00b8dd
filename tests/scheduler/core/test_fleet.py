"""Workers of one model taken together."""

from dataclasses import replace
from datetime import timedelta

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet, alive_workers, fleets_by_model
from tests.scheduler.core.worlds import ANSWERS, LATENCY, NOW, worker


def test_a_worker_that_stayed_silent_is_not_alive() -> None:
    silent = worker("w2", heartbeat_at=NOW - timedelta(seconds=6))
    alive = alive_workers([silent, worker("w1")], NOW, SchedulerConfig())
    assert [w.name for w in alive] == ["w1"]


def test_workers_group_by_model() -> None:
    fleets = fleets_by_model([worker("b", model="y"), worker("a"), worker("c", model="y")])
    assert {m: [w.name for w in fleet.members] for m, fleet in fleets.items()} == {
        "test-model": ["a"],
        "y": ["b", "c"],
    }


def test_a_fleet_serves_only_the_draft_lengths_that_all_its_workers_serve() -> None:
    plain = worker("w2")
    plain = replace(plain, spec=replace(plain.spec, draft_lengths=(0, 2), max_model_len=512))
    fleet = Fleet.of([worker("w1"), plain])
    assert fleet.draft_lengths == (0, 2)
    assert fleet.max_model_len == 512
    assert fleet.rows == 64


def test_the_best_informed_profile_speaks_for_the_fleet() -> None:
    informed = replace(ANSWERS, num_branches_seen=10**6)
    fleet = Fleet.of([worker("w1"), worker("w2", answers=informed)])
    assert fleet.answers == informed


def test_heartbeats_and_order_do_not_change_a_fleet() -> None:
    later = worker("w1", heartbeat_at=NOW)
    assert Fleet.of([worker("w1"), worker("w2")]) == Fleet.of([worker("w2"), later])


def test_two_like_workers_are_as_fast_per_token_as_each_alone() -> None:
    one, two = Fleet.of([worker("w1")]), Fleet.of([worker("w1"), worker("w2")])
    assert float(two.tpot_s(64, 2, 500.0)) == float(one.tpot_s(32, 2, 500.0))
    assert two.prefill_s(100.0) == one.prefill_s(100.0) / 2


def test_a_fleet_is_as_sure_as_its_least_counted_member() -> None:
    counted = replace(LATENCY, acceptance_tries=(400.0, 300.0, 200.0, 100.0))
    few = replace(LATENCY, acceptance_tries=(20.0, 15.0, 10.0, 5.0))
    both = Fleet.of([worker("a", latency=counted), worker("b", latency=few)])
    assert both.run_sigma([0, 4]).tolist() == few.run_sigma([0, 4]).tolist()
    assert both.run_sigma(0) == LATENCY.residual_sigma


def test_decay_slows_a_fleet_on_long_branches() -> None:
    decaying = Fleet.of([worker("a", latency=replace(LATENCY, acceptance_decay_per_token=1e-3))])
    assert decaying.tpot_s(8, 4, 500.0, 2000.0) > decaying.tpot_s(8, 4, 500.0, 20.0)
