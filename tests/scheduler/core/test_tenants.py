"""Tenants share the rows: upgrades by share, and room to be admitted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import admit
from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.snapshot import BatchView, JobView
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.slack import holds
from tests.scheduler.core.worlds import NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker(rows=64)])


def upgrade_row_seconds(jobs: list[JobView]) -> tuple[dict[str, float], dict[str, float]]:
    """Row-seconds beyond the cheapest plans, and mean accuracy, by tenant."""
    bounds = place(Bounds(FLEET, jobs, [], NOW, CONFIG))
    cheapest_s = bounds.cost_s.copy()
    upgrade(bounds)
    added_s = (bounds.cost_s - cheapest_s) * bounds.rows
    accuracy = bounds.accuracies(np.arange(len(jobs)), bounds.chosen)
    names = sorted({one.tenant_id for one in jobs})
    mine = {name: [j.tenant_id == name for j in bounds.jobs] for name in names}
    return (
        {name: float(added_s[mine[name]].sum()) for name in names},
        {name: float(accuracy[mine[name]].mean()) for name in names},
    )


def crowd(heavy_share: float, num_heavy: int = 20) -> list[JobView]:
    heavy = [
        job(f"h{i}", tenant_id="heavy", tenant_share=heavy_share, deadline_s=200.0, num_pending=60)
        for i in range(num_heavy)
    ]
    light = [
        job(
            f"l{i}",
            tenant_id="light",
            tenant_share=1 - heavy_share,
            deadline_s=200.0,
            num_pending=60,
        )
        for i in range(4)
    ]
    return heavy + light


def test_many_jobs_of_one_tenant_do_not_take_the_accuracy_of_another() -> None:
    _, shared = upgrade_row_seconds(crowd(0.5))
    assert shared["light"] > shared["heavy"] + 0.02
    as_one = [replace(one, tenant_id="one") for one in crowd(0.5)]
    _, together = upgrade_row_seconds(as_one)
    assert shared["light"] > together["one"]


@pytest.mark.parametrize("heavy_share", [0.5, 0.8])
def test_upgrades_are_filled_up_by_share_while_both_want_more(heavy_share: float) -> None:
    spent, _ = upgrade_row_seconds(crowd(heavy_share))
    # The light tenant may want less than its share; it never gets less unless it is content.
    content, _ = upgrade_row_seconds(
        [one for one in crowd(heavy_share) if one.tenant_id == "light"]
    )
    fair = (1 - heavy_share) * sum(spent.values())
    assert spent["light"] >= 0.9 * min(fair, content["light"])


def test_what_one_tenant_leaves_goes_to_the_others() -> None:
    alone, _ = upgrade_row_seconds([one for one in crowd(0.1) if one.tenant_id == "heavy"])
    beside, _ = upgrade_row_seconds(
        [one for one in crowd(0.1) if one.tenant_id == "heavy"]
        + [job("l", tenant_id="light", tenant_share=0.9, deadline_s=200.0, num_pending=1)]
    )
    assert beside["heavy"] > 0.9 * alone["heavy"]


def admitted_until_refused(share: float, *batches: BatchView) -> tuple[JobView, ...]:
    """As many jobs of one tenant as it is granted beside its job that these batches are of."""
    admitted: tuple[JobView, ...] = ()
    if batches:
        running = job(
            tenant_id="heavy", tenant_share=share, deadline_s=60.0, num_pending=0, num_in_flight=40
        )
        admitted = (running,)
    for number in range(200):
        new = job(
            f"h{number:03d}",
            tenant_id="heavy",
            tenant_share=share,
            deadline_s=60.0,
            num_pending=40,
        )
        if isinstance(admit(snapshot(admitted, batches), new, CONFIG), Rejected):
            return admitted
        admitted = (*admitted, new)
    raise AssertionError("the fleet has no bounds")


def test_a_tenant_that_submits_without_end_leaves_room_for_another() -> None:
    greedy = admitted_until_refused(0.5)
    light = job("l", tenant_id="light", tenant_share=0.5, deadline_s=60.0, num_pending=10)
    assert isinstance(admit(snapshot(greedy), light, CONFIG), Admitted)


def test_what_a_tenant_has_under_way_counts_for_its_share() -> None:
    # About half of what is done until the deadline.
    under_way = batch(num_open_problems=300, num_open_branches=300)
    greedy = admitted_until_refused(0.5, under_way)
    light = job("l", tenant_id="light", tenant_share=0.5, deadline_s=60.0, num_pending=80)
    assert isinstance(admit(snapshot(greedy, (under_way,)), light, CONFIG), Admitted)


def test_a_tenant_alone_may_fill_everything() -> None:
    alone, one_of_two = admitted_until_refused(1.0), admitted_until_refused(0.5)
    assert len(alone) > len(one_of_two)
    light = job("l", tenant_id="heavy", deadline_s=60.0, num_pending=40)
    assert isinstance(admit(snapshot(alone), light, CONFIG), Rejected)


def test_a_refusal_for_the_share_names_a_deadline_that_is_admitted() -> None:
    admitted = admitted_until_refused(0.5)
    new = job("x", tenant_id="heavy", tenant_share=0.5, deadline_s=60.0, num_pending=40)
    refused = admit(snapshot(admitted), new, CONFIG)
    assert isinstance(refused, Rejected)
    assert refused.earliest_finish_s is not None
    later = job(
        "x",
        tenant_id="heavy",
        tenant_share=0.5,
        deadline_s=refused.earliest_finish_s,
        num_pending=40,
    )
    assert isinstance(admit(snapshot(admitted), later, CONFIG), Admitted)


def late_among_many(light_share: float, tenant_id: str = "light") -> Bounds:
    """A job that is late, before many of another tenant that are tight."""
    heavy = [
        job(f"h{i}", tenant_id="heavy", tenant_share=1 - light_share, deadline_s=due, num_pending=5)
        for i, due in enumerate(np.linspace(9.0, 30.0, 60))
    ]
    late = job("l", tenant_id=tenant_id, tenant_share=light_share, deadline_s=8.5, num_pending=150)
    return place(Bounds(FLEET, [late, *heavy], [], NOW, CONFIG))


def test_a_late_job_of_a_tenant_below_its_share_keeps_its_place() -> None:
    bounds = late_among_many(0.5)
    assert bounds.jobs[0].id == "l"
    assert bounds.chosen[0] == LATE
    assert not bounds.is_last[0]
    # Those who lose by it are the other tenant's, and all who are in time are so behind it.
    assert bounds.is_last.any()
    assert holds(bounds)
    assert bounds.before_s()[1] == pytest.approx(bounds.cost_s[0])
    assert bounds.cost_s[0] > 0


@pytest.mark.parametrize(("share", "tenant_id"), [(0.1, "light"), (0.5, "heavy"), (1.0, "heavy")])
def test_a_late_job_of_a_tenant_at_its_share_goes_behind_those_it_would_make_late(
    share: float, tenant_id: str
) -> None:
    bounds = late_among_many(share, tenant_id)
    assert bounds.chosen[0] == LATE
    assert bounds.is_last[0]


@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(3.0, 40.0), st.integers(1, 60)),
        min_size=2,
        max_size=25,
    )
)
@settings(max_examples=40, deadline=None)
def test_whoever_is_late_all_others_keep_their_bounds(jobs: list[tuple[str, float, int]]) -> None:
    shares = {"a": 0.2, "b": 0.3, "c": 0.5}
    drawn = [
        job(f"j{i}", tenant_id=name, tenant_share=shares[name], deadline_s=due, num_pending=count)
        for i, (name, due, count) in enumerate(jobs)
    ]
    bounds = place(Bounds(FLEET, drawn, [], NOW, CONFIG))
    assert holds(bounds)
    upgrade(bounds)
    assert holds(bounds)
