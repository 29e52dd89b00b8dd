"""Quotes: the same word as admission, and never less for a later deadline."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.admission import admit
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected, RejectReason
from scheduler.core.quotes import Quote, quote
from scheduler.core.snapshot import JobView, Snapshot
from tests.scheduler.core.worlds import MODEL, NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()
WEEK_S = 7 * 86_400.0

COLD = worker(answers=AnswerProfile.uninformed(MODEL))
BUSY = snapshot(
    (job("a", deadline_s=40.0, num_pending=200), job("b", deadline_s=90.0, num_pending=300)),
    workers=(COLD,),
)
"""A fleet on which a job due at 42 s gets a better plan than the same job due at 60 s."""


def quoted(
    world: Snapshot, wanted: JobView, *deadlines_s: float, longest_s: float = WEEK_S
) -> Quote:
    result = quote(
        world,
        wanted,
        CONFIG,
        longest_s=longest_s,
        deadlines_s=deadlines_s,
        with_grid=not deadlines_s,
    )
    assert isinstance(result, Quote)
    return result


def admitted_at(world: Snapshot, wanted: JobView, deadline_s: float) -> Admitted | Rejected:
    due_at = NOW + timedelta(seconds=deadline_s)
    return admit(world, replace(wanted, deadline_at=due_at), CONFIG)


worlds = st.builds(
    snapshot,
    st.lists(st.tuples(st.floats(4.0, 120.0), st.integers(1, 150)), max_size=4).map(
        lambda rows: tuple(
            job(f"live_{index}", deadline_s=deadline_s, num_pending=n)
            for index, (deadline_s, n) in enumerate(rows)
        )
    ),
    st.sampled_from([(), (batch(num_open_branches=60),)]),
    st.sampled_from([(worker(),), (worker(), worker("w2", rows=16)), (COLD,)]),
)
wanted_jobs = st.integers(1, 150).map(lambda n: job("wanted", num_pending=n))
deadline_lists = st.lists(st.floats(1.0, 600.0), max_size=6)


@settings(max_examples=60, deadline=None)
@given(world=worlds, wanted=wanted_jobs, deadlines_s=deadline_lists)
def test_a_quote_is_what_admission_says_and_never_less_for_a_later_deadline(
    world: Snapshot, wanted: JobView, deadlines_s: list[float]
) -> None:
    points = quoted(world, wanted, *deadlines_s).deadlines
    for point in points:
        if point.submit_deadline_s is None:
            assert isinstance(admitted_at(world, wanted, point.deadline_s), Rejected)
        else:
            assert point.submit_deadline_s <= point.deadline_s
            assert admitted_at(world, wanted, point.submit_deadline_s) == point.admitted
    assert [p.deadline_s for p in points] == sorted({p.deadline_s for p in points})
    accuracies = [p.admitted.forecast.accuracy if p.admitted else 0.0 for p in points]
    assert accuracies == sorted(accuracies)


# Of a single problem a later deadline saves more branches than they are worth.
@pytest.mark.parametrize("n", [10, 40, 200])
def test_on_a_free_fleet_every_deadline_is_quoted_as_it_is_admitted(n: int) -> None:
    wanted = job(num_pending=n)
    deadlines_s = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
    points = quoted(snapshot(), wanted, *deadlines_s).deadlines
    assert [point.deadline_s for point in points] == list(deadlines_s)
    for point in points:
        verdict = admitted_at(snapshot(), wanted, point.deadline_s)
        assert point.admitted == (verdict if isinstance(verdict, Admitted) else None)


def test_the_default_frontier_begins_at_the_earliest_finish_and_ends_where_accuracy_does() -> None:
    result = quoted(snapshot(), job())
    points = result.deadlines
    assert 5 <= len(points) <= 20
    assert result.earliest_finish_s <= points[0].deadline_s <= 1.02 * result.earliest_finish_s
    assert all(point.submit_deadline_s == point.deadline_s for point in points)
    forever = admitted_at(snapshot(), job(), WEEK_S)
    assert isinstance(forever, Admitted)
    assert points[-1].admitted is not None
    gap = forever.forecast.accuracy - points[-1].admitted.forecast.accuracy
    assert abs(gap) <= CONFIG.accuracy_tie


def test_a_deadline_may_be_quoted_beside_the_default_ones() -> None:
    grid = quoted(snapshot(), job()).deadlines
    result = quote(snapshot(), job(), CONFIG, longest_s=WEEK_S, deadlines_s=(17.0, 2.0))
    assert isinstance(result, Quote)
    beside = {point.deadline_s for point in result.deadlines}
    assert beside == {17.0, 2.0} | {point.deadline_s for point in grid}


def test_a_deadline_behind_other_work_is_quoted_with_an_earlier_one_that_buys_more() -> None:
    wanted = job(num_pending=10)
    behind = admitted_at(BUSY, wanted, 60.0)
    assert isinstance(behind, Admitted)
    (point,) = quoted(BUSY, wanted, 60.0).deadlines
    assert point.submit_deadline_s is not None
    assert point.submit_deadline_s < 60.0
    assert point.admitted == admitted_at(BUSY, wanted, point.submit_deadline_s)
    assert point.admitted is not None
    assert point.admitted.forecast.accuracy >= behind.forecast.accuracy


def test_a_deadline_before_the_earliest_finish_is_infeasible() -> None:
    result = quoted(snapshot(), job(num_pending=200), 2.0, 600.0)
    early, late = result.deadlines
    assert early.admitted is None
    assert early.submit_deadline_s is None
    assert late.admitted is not None
    assert 2.0 < result.earliest_finish_s < 600.0


def test_the_shortest_deadline_reaches_the_accuracy_and_hardly_less_does_not() -> None:
    wanted = job(min_accuracy=0.7)
    shortest_s = quoted(snapshot(), wanted).shortest_s
    assert shortest_s is not None
    at_shortest = admitted_at(snapshot(), wanted, shortest_s)
    just_before = admitted_at(snapshot(), wanted, 0.99 * shortest_s)
    assert isinstance(at_shortest, Admitted)
    assert not at_shortest.degraded
    assert isinstance(just_before, Admitted)
    assert just_before.degraded


def test_an_accuracy_that_no_deadline_reaches_has_no_shortest_one() -> None:
    assert quoted(snapshot(), job(min_accuracy=0.999)).shortest_s is None
    assert quoted(snapshot(), job()).shortest_s is None


def test_an_accuracy_reached_at_once_has_the_earliest_finish_as_its_deadline() -> None:
    result = quoted(snapshot(), job(min_accuracy=0.01))
    assert result.shortest_s == result.deadlines[0].deadline_s


def test_nothing_is_quoted_for_a_model_that_nobody_serves() -> None:
    result = quote(snapshot(workers=()), job(), CONFIG, longest_s=WEEK_S)
    assert result == Rejected(RejectReason.NO_CAPACITY, None)


def test_a_set_that_takes_longer_than_any_deadline_has_an_earliest_finish_only() -> None:
    result = quoted(snapshot(), job(num_pending=10_000), 50.0, longest_s=100.0)
    assert result.earliest_finish_s > 100.0
    assert [point.admitted for point in result.deadlines] == [None]
