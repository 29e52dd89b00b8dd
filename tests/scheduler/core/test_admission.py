"""Promises: what is admitted fits, and a refusal says when it would."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.core.admission import admit
from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, Rejected, RejectReason
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.planning import plan_jobs
from scheduler.core.snapshot import NO_ARRIVALS, Arrivals, JobView
from scheduler.core.states import JobState
from tests.scheduler.core.slack import holds
from tests.scheduler.core.worlds import MODEL, NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()


def test_a_job_with_time_is_admitted_with_its_forecast() -> None:
    result = admit(snapshot(), job(deadline_s=60.0), CONFIG)
    assert isinstance(result, Admitted)
    assert not result.degraded
    assert result.forecast.finish_p95_s <= 59.5


@settings(max_examples=40, deadline=None)
@example(num_pending=24, deadline_s=3.37, factor=1.02)
@example(num_pending=28, deadline_s=5.0, factor=1.1)
@given(num_pending=st.integers(20, 32), deadline_s=st.floats(3.0, 40.0), factor=st.floats(1.0, 1.5))
def test_more_time_never_promises_less_where_rows_are_free_for_all(
    num_pending: int, deadline_s: float, factor: float
) -> None:
    told = []
    for time_s in (deadline_s, factor * deadline_s):
        result = admit(snapshot(), job(deadline_s=time_s, num_pending=num_pending), CONFIG)
        told.append(result.forecast.accuracy if isinstance(result, Admitted) else 0.0)
    # Widths are compared at common times, and told until the deadline.
    assert told[1] >= told[0] - 0.02


def test_a_job_for_a_model_without_workers_is_refused() -> None:
    silent = worker(heartbeat_at=NOW - timedelta(seconds=60))
    for workers in ((), (silent,), (worker(model="other"),)):
        result = admit(snapshot(workers=workers), job(), CONFIG)
        assert result == Rejected(RejectReason.NO_CAPACITY, None)


def test_an_accuracy_out_of_reach_is_admitted_as_degraded() -> None:
    result = admit(snapshot(), job(deadline_s=60.0, min_accuracy=0.99), CONFIG)
    assert isinstance(result, Admitted)
    assert result.degraded


def test_a_job_too_large_for_its_deadline_is_refused_with_the_earliest_finish() -> None:
    result = admit(snapshot(), job(deadline_s=5.0, num_pending=100), CONFIG)
    assert isinstance(result, Rejected)
    assert result.reason is RejectReason.DEADLINE_INFEASIBLE
    assert result.earliest_finish_s is not None
    assert 5.0 < result.earliest_finish_s < 30.0


def test_a_job_that_would_break_an_admitted_one_is_refused() -> None:
    settled = job("settled", deadline_s=30.0, num_pending=250)
    assert isinstance(admit(snapshot(), settled, CONFIG), Admitted)
    intruder = job("intruder", deadline_s=20.0, num_pending=100)
    assert isinstance(admit(snapshot(), intruder, CONFIG), Admitted)
    result = admit(snapshot((settled,)), intruder, CONFIG)
    assert isinstance(result, Rejected)
    assert result.earliest_finish_s is not None
    assert result.earliest_finish_s > 30.0, "it has to go after the admitted job"


def test_a_job_already_late_does_not_keep_others_out() -> None:
    late = job("late", deadline_s=3.0, num_pending=500)
    assert isinstance(admit(snapshot((late,)), job(deadline_s=60.0), CONFIG), Admitted)


def test_jobs_that_ended_or_belong_to_other_models_do_not_count() -> None:
    others = (
        job("done", num_pending=10_000, state=JobState.CANCELLING),
        job("other", num_pending=10_000, model="other"),
    )
    alone = admit(snapshot(), job(), CONFIG)
    assert admit(snapshot(others), job(), CONFIG) == alone


def test_a_lost_batch_does_not_count_as_work() -> None:
    gone = batch(lease_s=-1.0, num_open_branches=10_000)
    alone = admit(snapshot(), job(), CONFIG)
    assert admit(snapshot((), (gone,)), job(), CONFIG) == alone
    held = batch(num_open_branches=10_000)
    assert isinstance(admit(snapshot((), (held,)), job(), CONFIG), Rejected)


small_jobs = st.lists(
    st.tuples(st.floats(4.0, 120.0), st.integers(1, 150)), min_size=1, max_size=5
).map(
    lambda rows: tuple(
        job(f"job_{index}", deadline_s=deadline, num_pending=n)
        for index, (deadline, n) in enumerate(rows)
    )
)


@settings(max_examples=50, deadline=None)
@given(wanted=small_jobs)
def test_all_admitted_jobs_keep_their_bounds(wanted: tuple[JobView, ...]) -> None:
    admitted: tuple[JobView, ...] = ()
    for new in wanted:
        if isinstance(admit(snapshot(admitted), new, CONFIG), Admitted):
            admitted = (*admitted, new)
    bounds = plan_jobs(Fleet.of([worker()]), admitted, [], NOW, CONFIG).bounds
    assert bounds is None or ((bounds.chosen != LATE).all() and holds(bounds))


def test_a_job_that_would_only_slow_another_is_told_to_come_after_it() -> None:
    # Alone on the rows it fits by a hair; beside full rows it does not.
    alone = job("alone", deadline_s=600.0, num_pending=2)
    quoted = admit(snapshot(), replace(alone, deadline_at=NOW), CONFIG)
    assert isinstance(quoted, Rejected)
    assert quoted.earliest_finish_s is not None
    tight = job("tight", deadline_s=quoted.earliest_finish_s, num_pending=2)
    assert isinstance(admit(snapshot(), tight, CONFIG), Admitted)
    result = admit(snapshot((tight,)), job(deadline_s=600.0, num_pending=500), CONFIG)
    assert isinstance(result, Rejected)
    assert result.earliest_finish_s is not None
    assert result.earliest_finish_s >= 600.0


earlier_arrivals = st.lists(
    st.tuples(st.floats(4.0, 600.0), st.integers(1, 2000)), max_size=3
).flatmap(lambda numbers: st.floats(0.0, 400.0).map(lambda s: Arrivals.since(s, numbers)))


@settings(max_examples=50, deadline=None)
@given(wanted=small_jobs, earlier=earlier_arrivals)
@example(wanted=(job(deadline_s=124.0, num_pending=3),), earlier=NO_ARRIVALS)
def test_the_first_tick_plans_what_admission_promised(
    wanted: tuple[JobView, ...], earlier: Arrivals
) -> None:
    world, given = replace(snapshot(), arrivals=((MODEL, earlier),)), list(earlier.numbers)
    for new in wanted:
        promise = admit(world, new, CONFIG)
        # As the next tick reads them.
        given.append(((new.deadline_at - new.created_at).total_seconds(), new.num_pending))
        arrivals = Arrivals.since(earlier.first_s, given)
        world = replace(world, arrivals=((MODEL, arrivals),))
        if isinstance(promise, Rejected):
            continue
        # Stored in whole microseconds, as a database does.
        finish_at = NOW + timedelta(seconds=promise.forecast.finish_p95_s)
        stored = replace(new, plan=promise.plan, promised_at=finish_at, predicted_at=finish_at)
        world = replace(world, jobs=(*world.jobs, stored))
        for planned in decide(world, CONFIG).plans:
            is_alone = len(world.jobs) == 1
            # Others see more branches than one for each problem only once the plan is stored.
            if planned.job_id == new.id and (is_alone or promise.plan.num_branches == 1):
                # Among plans that are nearly equal, what is stored may tip the scales.
                gain = planned.forecast.accuracy - promise.forecast.accuracy
                assert planned.plan == promise.plan or gain >= -2 * CONFIG.replan_gain
                if planned.plan == promise.plan and is_alone:
                    assert planned.forecast == promise.forecast


def slows_any(admitted: tuple[JobView, ...], new: JobView) -> bool:
    """Whether an admitted job fits only while the new one leaves rows free."""
    fleet = Fleet.of([worker()])
    beside = place(Bounds(fleet, admitted, [], NOW, CONFIG, extra_branches=new.num_pending))
    return bool((beside.chosen == LATE).any())


@settings(max_examples=50, deadline=None)
@given(
    wanted=st.lists(
        st.tuples(st.floats(4.0, 120.0), st.integers(40, 150)), min_size=1, max_size=5
    ).map(
        lambda rows: [
            job(f"job_{index}", deadline_s=deadline, num_pending=n)
            for index, (deadline, n) in enumerate(rows)
        ]
    )
)
def test_the_earliest_finish_of_a_refusal_is_a_deadline_that_is_admitted(
    wanted: list[JobView],
) -> None:
    admitted: tuple[JobView, ...] = ()
    for new in wanted:
        result = admit(snapshot(admitted), new, CONFIG)
        if isinstance(result, Rejected):
            assert result.earliest_finish_s is not None
            later = NOW + timedelta(seconds=result.earliest_finish_s)
            assert later >= new.deadline_at
            again = admit(snapshot(admitted), replace(new, deadline_at=later), CONFIG)
            assert isinstance(again, Admitted) or slows_any(admitted, new)
        else:
            admitted = (*admitted, new)
