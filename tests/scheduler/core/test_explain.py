"""Explanations: the extract holds what matters, and each fate follows from the numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import Weighed, weigh
from scheduler.core.basis import FEW_PROBLEMS, basis_of
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, PlanReason, Rejected
from scheduler.core.explain import explain, explain_live, frontier
from scheduler.core.explanation import Explanation, Fate
from scheduler.core.fleet import Fleet
from scheduler.core.grid import NUM_CAPS
from scheduler.core.offers import candidates_of
from scheduler.core.plan import Plan
from scheduler.core.snapshot import Snapshot
from tests.scheduler.core.worlds import ANSWERS, LATENCY, batch, job, snapshot, worker

CONFIG = SchedulerConfig()
TIE = CONFIG.accuracy_tie
BUSY = (job("a", deadline_s=40.0, num_pending=100), job("b", deadline_s=90.0, num_pending=150))


def explained(weighed: Weighed, job_id: str) -> Explanation:
    """The explanation of an admission."""
    assert isinstance(weighed.verdict, Admitted)
    assert weighed.bounds is not None
    return explain(weighed.bounds, (job_id, 0), weighed.verdict)


def test_an_admission_is_explained_by_its_inputs_and_its_rivals() -> None:
    new = job(deadline_s=60.0)
    found = explained(weigh(snapshot(BUSY), new, CONFIG), new.id)
    assert (found.num_workers, found.rows, found.num_jobs_ahead) == (1, 32, 1)
    assert found.time_left_s == 60.0
    assert 0.0 < found.ahead_s < found.ahead_p95_s
    assert found.is_in_time
    assert 0 < found.num_in_time < found.num_candidates
    fates = [candidate.fate for candidate in found.candidates]
    assert {Fate.CHOSEN, Fate.TOO_LATE, Fate.LESS_ACCURATE} <= set(fates)
    assert min(c.num_branches for c in found.candidates) == 1


@settings(max_examples=60, deadline=None)
@given(deadline_s=st.floats(5.0, 300.0), num_pending=st.integers(1, 200), is_busy=st.booleans())
def test_each_fate_follows_from_the_numbers(
    deadline_s: float, num_pending: int, is_busy: bool
) -> None:
    world = snapshot(BUSY if is_busy else ())
    new = job(deadline_s=deadline_s, num_pending=num_pending)
    weighed = weigh(world, new, CONFIG)
    if weighed.bounds is None or isinstance(weighed.verdict, Rejected):
        return
    found = explained(weighed, new.id)
    assert found.is_in_time
    (chosen,) = [c for c in found.candidates if c.fate is Fate.CHOSEN]
    assert chosen.num_branches == found.plan.num_branches
    # Where the deadline cuts, a forecast counts what ends beyond the cap too.
    options = weighed.bounds.options(weighed.bounds.jobs.index(new))
    place = options.find(found.plan)
    assert place is not None
    is_as_wide = options.plans[:, 0] == found.plan.num_branches
    is_as_wide &= options.plans[:, 3] == found.plan.max_branches
    longer = options.accuracy[is_as_wide & (options.caps <= found.plan.max_tokens + NUM_CAPS)].max()
    assert chosen.accuracy - 1e-9 <= found.forecast.accuracy <= longer + 1e-9
    assert chosen.finish_p95_s == pytest.approx(found.forecast.finish_p95_s)
    limit_s = found.time_left_s - found.reserve_s
    assert len(found.candidates) <= 13
    needed_s = [c.needed_s for c in found.candidates]
    assert needed_s == sorted(needed_s)
    for other in found.candidates:
        gain = other.accuracy - chosen.accuracy
        # A plan in force is kept while its P95 fits.
        is_late = other.needed_s > limit_s + 1e-9 and other.fate is not Fate.CHOSEN
        assert is_late == (other.fate is Fate.TOO_LATE)
        match other.fate:
            case Fate.ROWS_NEEDED:
                assert gain > TIE
                assert is_busy, "alone, only time and the price of branches stand against accuracy"
            case Fate.TOO_DEAR:
                assert gain > TIE
                assert other.row_seconds > chosen.row_seconds
            case Fate.NO_GAIN:
                assert abs(gain) <= TIE
            case Fate.LESS_ACCURATE:
                assert gain < -TIE
            case Fate.DOMINATED:
                assert gain < -TIE
                assert other.needed_s >= chosen.needed_s
                assert other.row_seconds >= chosen.row_seconds


def test_nothing_beats_a_candidate_of_the_frontier() -> None:
    options = candidates_of(Fleet.of([worker()]), job(), CONFIG)
    line = frontier(options)
    for i in line:
        beats = (options.needed_s <= options.needed_s[i]) & (
            options.accuracy >= options.accuracy[i]
        )
        assert not np.delete(beats & (options.accuracy > options.accuracy[i]), i).any()
    assert options.accuracy[line].max() == options.accuracy.max()
    assert options.needed_s[line].min() == options.needed_s.min()


def test_an_explanation_is_small_enough_for_an_event() -> None:
    new = job(deadline_s=60.0)
    found = explained(weigh(snapshot(BUSY), new, CONFIG), new.id)
    assert len(json.dumps(found.to_dict())) < 4096


def test_a_live_job_is_explained_with_the_plan_that_the_next_tick_leaves_in_force() -> None:
    (planned,) = decide(snapshot((job(),)), CONFIG).plans
    live = job(plan=planned.plan, num_pending=30, deadline_s=50.0)
    for others, is_kept in (((), True), (BUSY, False)):
        world = snapshot((live, *others), (batch(num_open_branches=20),))
        changed = {plan.job_id: plan.plan for plan in decide(world, CONFIG).plans}
        found = explain_live(world, live.id, CONFIG)
        assert found is not None
        assert found.plan == changed.get(live.id, planned.plan)
        assert (found.plan == planned.plan) == is_kept
        assert found.num_problems == 30
        assert found.ahead_s > 0.0
        assert [c.fate for c in found.candidates].count(Fate.CHOSEN) == 1


def test_a_gain_too_small_for_a_change_of_plan_is_called_so() -> None:
    (first,) = decide(snapshot((job(deadline_s=50.0),)), CONFIG).plans
    for deadline_s in np.linspace(50.0, 70.0, 21).tolist():
        live = job(plan=first.plan, deadline_s=deadline_s)
        found = explain_live(snapshot((live,)), live.id, CONFIG)
        assert found is not None
        fates = {candidate.fate for candidate in found.candidates}
        assert Fate.ROWS_NEEDED not in fates, "it has the rows for itself"
        if Fate.NOT_WORTH_CHANGING in fates:
            return
    pytest.fail("no deadline offers a small gain")


def test_a_job_that_gets_no_plan_is_not_explained_live() -> None:
    for world in (
        snapshot(()),
        snapshot((job(num_pending=0, num_in_flight=3),)),
        snapshot((job(),), workers=()),
        snapshot((job(deadline_s=0.1),)),
    ):
        assert explain_live(world, "job_1", CONFIG) is None


def test_a_job_too_late_for_every_plan_is_explained_by_its_fallback() -> None:
    late = job(deadline_s=3.0, num_pending=100)
    found = explain_live(snapshot((late,)), late.id, CONFIG)
    assert found is not None
    assert not found.is_in_time
    assert found.num_in_time == 0
    assert {c.fate for c in found.candidates} == {Fate.TOO_LATE}


def test_a_plan_that_is_too_wide_behind_other_work_is_not_said_to_be_late() -> None:
    held = (batch(deadline_s=100.0, num_open_branches=64),)
    seen = set()
    for deadline_s in np.arange(2.0, 12.0, 0.5).tolist():
        one = job(deadline_s=deadline_s, num_pending=4)
        found = explain_live(snapshot((one,), held, (worker(rows=64),)), one.id, CONFIG)
        assert found is not None
        limit_s = found.time_left_s - found.reserve_s
        for other in found.candidates:
            assert other.fate is not Fate.TOO_LATE or other.needed_s > limit_s
            assert other.fate is not Fate.TOO_WIDE or other.needed_s <= limit_s
        fates = {c.fate for c in found.candidates}
        assert Fate.TOO_WIDE not in fates or not (found.is_in_time or found.num_in_time)
        seen |= fates
    assert {Fate.TOO_LATE, Fate.TOO_WIDE, Fate.LESS_ACCURATE} <= seen


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        (snapshot((job(),)), PlanReason.FIRST_PLAN),
        (snapshot((job(plan=Plan(1, 0, 200, 8), deadline_s=300.0),)), PlanReason.NO_LONGER_OFFERED),
        (snapshot((job(plan=Plan(12, 1, 1608, 8), deadline_s=3.0),)), PlanReason.DEADLINE_AT_RISK),
    ],
)
def test_a_new_plan_says_why(world: Snapshot, reason: PlanReason) -> None:
    (planned,) = decide(world, CONFIG).plans
    assert planned.reason is reason


def test_a_plan_that_time_or_room_replaced_says_so() -> None:
    (first,) = decide(snapshot((job(),)), CONFIG).plans
    squeezed = job(plan=first.plan, deadline_s=25.0)
    (smaller,) = decide(snapshot((squeezed,)), CONFIG).plans
    assert smaller.reason is PlanReason.WOULD_BE_LATE
    relaxed = job(plan=smaller.plan, deadline_s=200.0)
    (larger,) = decide(snapshot((relaxed,)), CONFIG).plans
    assert larger.reason is PlanReason.MORE_ACCURATE


def test_a_forecast_says_how_far_it_can_be_trusted() -> None:
    def note_of(num_problems: int) -> str | None:
        answers = replace(ANSWERS, num_problems_seen=num_problems)
        return basis_of(Fleet.of([worker(answers=answers)])).note

    assert "Cold start" in (note_of(0) or "")
    assert "1 problem only" in (note_of(1) or "")
    assert "49 problems only" in (note_of(FEW_PROBLEMS - 1) or "")
    # Difficulties of the test profile have a deviation of 0.3: 0.8 * 0.3 / sqrt(50) is 3.4 points.
    assert "off by 3 points" in (note_of(FEW_PROBLEMS) or "")
    assert note_of(400) is None


def test_the_sources_of_latency_are_counted() -> None:
    other = replace(LATENCY, device="H200", measured_at="2026-02-02")
    members = [worker("w1"), worker("w2", latency=other), worker("w3")]
    basis = basis_of(Fleet.of(members))
    assert [(s.num_workers, s.device) for s in basis.latency] == [(2, "none"), (1, "H200")]
    assert basis.source == "synthetic"
