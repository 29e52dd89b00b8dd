"""Jobs without a promise: taken when no promise can be given, and never at another's cost."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import admit
from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, PlanReason, Rejected, RejectReason, Verdict
from scheduler.core.efforts import MAX_WEIGHED
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.snapshot import JobView
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.worlds import NOW, job, snapshot, worker

CONFIG = SchedulerConfig()


def effort(id: str = "effort", *, deadline_s: float = 5.0, num_pending: int = 100) -> JobView:
    return replace(job(id, deadline_s=deadline_s, num_pending=num_pending), is_promised=False)


def test_a_job_too_large_for_its_deadline_is_taken_as_a_best_effort() -> None:
    new = job(deadline_s=5.0, num_pending=100)
    assert isinstance(admit(snapshot(), new, CONFIG), Rejected)

    taken = admit(snapshot(), new, CONFIG, best_effort=True)

    assert isinstance(taken, Admitted)
    assert (taken.verdict, taken.is_promised) == (Verdict.ACCEPTED_DEGRADED, False)
    assert 0.0 < taken.forecast.accuracy < 0.6


def test_a_job_that_can_be_promised_is_promised_whatever_was_asked() -> None:
    new = job(deadline_s=60.0)
    assert admit(snapshot(), new, CONFIG, best_effort=True) == admit(snapshot(), new, CONFIG)


def test_without_workers_there_is_no_effort_to_make() -> None:
    result = admit(snapshot(workers=()), job(), CONFIG, best_effort=True)
    assert result == Rejected(RejectReason.NO_CAPACITY, None)


def test_best_efforts_do_not_keep_others_out() -> None:
    crowd = tuple(effort(f"effort_{i}", deadline_s=30.0, num_pending=500) for i in range(3))
    assert isinstance(admit(snapshot(crowd), job(deadline_s=60.0), CONFIG), Admitted)


@pytest.mark.parametrize(
    ("promised_s", "first"),
    [
        pytest.param(60.0, "promised", id="which cannot wait"),
        pytest.param(120.0, "effort", id="which can wait"),
        pytest.param(35.0, "promised", id="which is late"),
    ],
)
def test_an_earlier_best_effort_goes_before_a_promise_that_can_wait(
    promised_s: float, first: str
) -> None:
    promised = job("promised", deadline_s=promised_s, num_pending=400)
    early = effort(deadline_s=30.0, num_pending=4)

    decisions = decide(snapshot((early, promised)), CONFIG)

    assert decisions.new_batches[0].job_id == first
    plans = {planned.job_id: planned for planned in decisions.plans}
    assert plans["promised"].reason is PlanReason.FIRST_PLAN
    if first == "effort":
        assert plans["effort"].plan.num_branches == 1, "others wait behind it"
        finish_s = plans["promised"].forecast.finish_p95_s
        assert finish_s <= promised_s - CONFIG.reserve_s
    alone = decide(snapshot((early,)), CONFIG)
    assert {new.job_id for new in alone.new_batches} == {"effort"}


@pytest.mark.parametrize(("due_s", "first"), [(1.5, "patient"), (2.0, "patient"), (8.0, "effort")])
def test_an_effort_that_would_answer_next_to_nothing_lets_others_go_first(
    due_s: float, first: str
) -> None:
    hasty = effort(deadline_s=due_s, num_pending=40)
    patient = job("patient", deadline_s=200.0, num_pending=20)

    beside = decide(snapshot((hasty, patient)), CONFIG)
    alone = decide(snapshot((hasty, replace(hasty, id="another"))), CONFIG)

    assert {new.job_id for new in beside.new_batches} == {first}
    assert {new.job_id for new in alone.new_batches} <= {"effort", "another"}
    assert alone.new_batches


def test_a_crowd_of_hopeless_efforts_keeps_nobody_from_rows() -> None:
    hasty = [effort(f"hasty_{i:02d}", deadline_s=1.5, num_pending=4) for i in range(40)]
    patient = job("patient", deadline_s=200.0, num_pending=2)

    decisions = decide(snapshot((*hasty, patient)), CONFIG)

    assert {new.job_id for new in decisions.new_batches} == {"patient"}
    assert sum(planned.job_id.startswith("hasty") for planned in decisions.plans) == MAX_WEIGHED


@pytest.mark.parametrize("num_hasty", [1, 16, 30])
def test_hopeless_efforts_do_not_keep_rows_from_an_effort_that_is_not(num_hasty: int) -> None:
    hasty = [effort(f"hasty_{i:02d}", deadline_s=1.5, num_pending=4) for i in range(num_hasty)]
    patient = effort("patient", deadline_s=8.0, num_pending=40)

    decisions = decide(snapshot((*hasty, patient)), CONFIG)

    assert {new.job_id for new in decisions.new_batches} == {"patient"}


def test_among_very_many_hopeless_efforts_one_that_is_not_has_its_turn() -> None:
    hasty = [effort(f"hasty_{i:03d}", deadline_s=1.5, num_pending=4) for i in range(100)]
    patient = effort("patient", deadline_s=8.0, num_pending=40)
    served: set[str] = set()
    for instant in range(20):
        world = snapshot((*hasty, patient))
        world = replace(world, now=NOW + timedelta(milliseconds=instant))
        served |= {new.job_id for new in decide(world, CONFIG).new_batches}
    assert "patient" in served


def test_an_effort_with_time_for_a_wide_plan_is_not_in_vain() -> None:
    ample = effort("ample", deadline_s=30.0, num_pending=10)
    hasty = effort("hasty", deadline_s=1.5, num_pending=10)

    decisions = decide(snapshot((hasty, ample)), CONFIG)

    assert {new.job_id for new in decisions.new_batches} == {"ample"}


def test_a_change_of_an_effort_says_that_nothing_was_promised() -> None:
    (first,) = decide(snapshot((effort(),)), CONFIG).plans
    stored = replace(effort(deadline_s=3.0), plan=replace(first.plan, num_branches=64))

    (changed,) = decide(snapshot((stored,)), CONFIG).plans

    assert changed.reason is PlanReason.BEST_EFFORT


rows = st.lists(st.tuples(st.floats(4.0, 120.0), st.integers(1, 150)), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(wanted=rows, efforts=rows)
def test_no_plan_of_a_promised_job_suffers_from_best_efforts_on_full_rows(
    wanted: list[tuple[float, int]], efforts: list[tuple[float, int]]
) -> None:
    promised = [job(f"job_{i}", deadline_s=due, num_pending=n) for i, (due, n) in enumerate(wanted)]
    others = [
        effort(f"effort_{i}", deadline_s=due, num_pending=n) for i, (due, n) in enumerate(efforts)
    ]
    fleet = Fleet.of([worker()])
    alone = place(Bounds(fleet, promised, [], NOW, CONFIG, extra_branches=fleet.rows))
    beside = place(Bounds(fleet, [*others, *promised], [], NOW, CONFIG, extra_branches=fleet.rows))
    upgrade(alone)
    upgrade(beside)

    assert list(beside.jobs)[: len(promised)] == list(alone.jobs)
    assert beside.chosen[: len(promised)].tolist() == alone.chosen.tolist()
    assert (beside.chosen[len(promised) :] == LATE).all()
    assert beside.is_last[len(promised) :].all()


@settings(max_examples=50, deadline=None)
@given(wanted=rows, is_effort=st.lists(st.booleans(), min_size=5, max_size=5))
def test_whatever_is_taken_promises_hold_and_refusals_name_a_feasible_finish(
    wanted: list[tuple[float, int]], is_effort: list[bool]
) -> None:
    live: tuple[JobView, ...] = ()
    for i, (due, n) in enumerate(wanted):
        new = job(f"job_{i}", deadline_s=due, num_pending=n)
        result = admit(snapshot(live), new, CONFIG, best_effort=is_effort[i])
        if isinstance(result, Admitted):
            live = (*live, replace(new, is_promised=result.is_promised))
        else:
            assert result.earliest_finish_s is not None
            assert NOW + timedelta(seconds=result.earliest_finish_s) >= new.deadline_at
    bounds = place(Bounds(Fleet.of([worker()]), live, [], NOW, CONFIG))
    held = [chosen != LATE for chosen in bounds.chosen.tolist()]
    assert held == [one.is_promised for one in bounds.jobs]
