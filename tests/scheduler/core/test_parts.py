"""Jobs whose problems are due at several instants: planned like jobs, promised together."""

from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.admission import weigh
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, Rejected
from scheduler.core.parts import admitted_parts, verdict_of_all, weigh_parts
from scheduler.core.snapshot import JobView
from tests.scheduler.core.worlds import NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()


def parts_of(sizes: list[tuple[float, int]]) -> list[JobView]:
    """Parts of one job with (deadline, problems), numbered from 1, nearest first."""
    return [
        replace(job(deadline_s=deadline_s, num_pending=number), part=index)
        for index, (deadline_s, number) in enumerate(sorted(sizes), start=1)
    ]


SIZES = st.lists(
    st.tuples(st.floats(8.0, 300.0), st.integers(1, 60)),
    min_size=1,
    max_size=5,
    unique_by=lambda size: size[0],
)


def as_jobs(parts: list[JobView]) -> list[JobView]:
    """The same as jobs of their own."""
    return [replace(part, id=f"job_{part.part}", part=0) for part in parts]


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES)
def test_parts_are_promised_what_jobs_are_that_come_one_after_another(
    sizes: list[tuple[float, int]],
) -> None:
    parts = parts_of(sizes)
    weighed = weigh_parts(snapshot(), parts, CONFIG, best_effort=False)
    alone = weigh_parts(snapshot(), as_jobs(parts), CONFIG, best_effort=False)
    assert [one.verdict for one in weighed] == [one.verdict for one in alone]
    verdict = verdict_of_all(parts, weighed)
    if isinstance(verdict, Rejected):
        assert verdict is weighed[-1].verdict
        return
    decided = admitted_parts(parts, weighed)
    assert len(decided) == len(parts)
    finishes = [one.forecast.finish_p95_s for one in decided.values()]
    accuracies = [one.forecast.accuracy for one in decided.values()]
    assert verdict.forecast.finish_p95_s == max(finishes)
    # The mean of equal numbers may be off by a rounding.
    assert min(accuracies) - 1e-9 <= verdict.forecast.accuracy <= max(accuracies) + 1e-9
    assert verdict.plan == decided[parts[-1].part].plan


def test_the_tick_after_an_admission_keeps_the_plans() -> None:
    parts = parts_of([(30.0, 5), (300.0, 300)])
    now = snapshot()
    decided = admitted_parts(parts, weigh_parts(now, parts, CONFIG, best_effort=False))
    assert len(decided) == 2
    for part in parts:
        verdict = decided[part.part]
        promised_at = NOW + timedelta(seconds=verdict.forecast.finish_p95_s)
        taken = replace(
            part, plan=verdict.plan, promised_at=promised_at, num_problems=part.num_pending
        )
        now = replace(now.with_arrival(part), jobs=(*now.jobs, taken))
    assert decide(now, CONFIG).plans == ()


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, order=st.randoms())
def test_a_tick_plans_and_hands_out_parts_as_jobs(
    sizes: list[tuple[float, int]], order: Random
) -> None:
    parts = parts_of(sizes)
    decided = decide(snapshot(tuple(parts)), CONFIG)
    mixed = list(parts)
    order.shuffle(mixed)
    assert decide(snapshot(tuple(mixed)), CONFIG) == decided
    alone = decide(snapshot(tuple(as_jobs(parts))), CONFIG)
    assert {one.part: (one.plan, one.forecast) for one in decided.plans} == {
        int(one.job_id.removeprefix("job_")): (one.plan, one.forecast) for one in alone.plans
    }
    assert [(new.part, new.num_problems, new.plan) for new in decided.new_batches] == [
        (int(new.job_id.removeprefix("job_")), new.num_problems, new.plan)
        for new in alone.new_batches
    ]


def test_one_part_that_cannot_be_promised_refuses_the_job_and_is_the_last_weighed() -> None:
    parts = parts_of([(10.0, 2), (12.0, 5000), (300.0, 2)])
    weighed = weigh_parts(snapshot(), parts, CONFIG, best_effort=False)
    assert len(weighed) == 2
    verdict = verdict_of_all(parts, weighed)
    assert isinstance(verdict, Rejected)
    assert verdict.earliest_finish_s is not None
    assert verdict.earliest_finish_s > 12.0


def test_a_job_is_promised_only_if_all_of_its_parts_are() -> None:
    parts = parts_of([(10.0, 2), (12.0, 5000)])
    weighed = weigh_parts(snapshot(), parts, CONFIG, best_effort=True)
    verdict = verdict_of_all(parts, weighed)
    assert isinstance(verdict, Admitted)
    assert (verdict.is_promised, verdict.degraded) == (False, True)
    assert isinstance(weighed[0].verdict, Admitted)
    assert weighed[0].verdict.is_promised


def test_accuracy_asked_for_is_that_of_all_parts_together() -> None:
    tight, ample = parts_of([(10.0, 20), (300.0, 50)])
    alone = weigh(snapshot(), tight, CONFIG).verdict
    assert isinstance(alone, Admitted)
    wanted = alone.forecast.accuracy + 0.01
    parts = [replace(part, min_accuracy=wanted) for part in (tight, ample)]
    weighed = weigh_parts(snapshot(), parts, CONFIG, best_effort=False)
    assert isinstance(weighed[0].verdict, Admitted)
    assert weighed[0].verdict.degraded
    verdict = verdict_of_all(parts, weighed)
    assert isinstance(verdict, Admitted)
    assert verdict.forecast.accuracy > wanted
    assert not verdict.degraded


def test_what_is_late_expires_part_by_part_and_with_the_job_all_at_once() -> None:
    over, live = parts_of([(-1.0, 2), (60.0, 2)])
    rest = job(deadline_s=90.0, num_pending=1)
    assert decide(snapshot((rest, over, live)), CONFIG).expired_parts == (("job_1", 1),)
    assert decide(snapshot((rest, over, live)), CONFIG).expired_jobs == ()
    ended = replace(rest, deadline_at=NOW - timedelta(seconds=1))
    decided = decide(snapshot((ended, over, replace(live, deadline_at=ended.deadline_at))), CONFIG)
    assert (decided.expired_jobs, decided.expired_parts) == (("job_1",), ())


def test_of_two_parts_at_risk_each_is_told() -> None:
    hopeless = parts_of([(8.0, 4000), (9.0, 4000)])
    busy = batch(num_open_problems=16, num_open_branches=32)
    risks = decide(snapshot(tuple(hopeless), (busy,), (worker(),)), CONFIG).risks
    assert sorted((risk.job_id, risk.part) for risk in risks) == [("job_1", 1), ("job_1", 2)]
