"""How many rows are used, and the fluid model that says so."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.columns import batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.fleet import Fleet
from scheduler.core.row_limit import SHARES, Fluid, limited
from scheduler.core.snapshot import ARRIVAL_WINDOW_S, NO_ARRIVALS, Arrivals, BatchView, JobView
from tests.scheduler.core.worlds import ANSWERS, MODEL, NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker("w1", rows=128), worker("w2", rows=128)])
HURRIED = [job(name, deadline_s=5.0, num_pending=125) for name in ("one", "other")]


def rows(
    jobs: list[JobView], batches: list[BatchView] | None = None, arrivals: Arrivals = NO_ARRIVALS
) -> int:
    line = jobs_table(jobs), batches_table(batches or [])
    return limited(FLEET, *line, NOW, CONFIG, arrivals).rows


def rate(*classes: tuple[float, float]) -> Arrivals:
    """Arrivals of these (seconds given, problems per second)."""
    numbers = tuple((s, round(r * ARRIVAL_WINDOW_S)) for s, r in classes)
    return Arrivals(ARRIVAL_WINDOW_S, numbers)


def test_all_rows_are_used_by_few_problems_and_by_patient_ones() -> None:
    assert rows([job(deadline_s=5.0, num_pending=30)], arrivals=rate((5.0, 1.0))) == 256
    assert rows([job(deadline_s=300.0, num_pending=400)]) == 256


def test_fewer_rows_are_used_where_all_would_be_too_slow_for_anyone() -> None:
    assert rows(HURRIED) < 256


def test_no_limit_makes_a_job_wait_for_itself() -> None:
    beside = job("beside", deadline_s=5.0, num_pending=50)
    for num_pending, is_limited in ((180, True), (182, False), (256, False), (257, True)):
        assert (rows([job(deadline_s=5.0, num_pending=num_pending), beside]) < 256) == is_limited


def test_problems_that_have_time_leave_rows_to_hurried_ones() -> None:
    assert rows([job(deadline_s=300.0, num_pending=400)], arrivals=rate((4.0, 5.0))) < 256


def test_all_rows_are_used_where_fewer_would_not_do_the_work() -> None:
    patient = [job(deadline_s=40.0, num_pending=400)]
    hurried = rate((4.0, 5.0))
    assert rows(patient, arrivals=hurried) < 256
    assert rows([job(deadline_s=40.0, num_pending=2000)], arrivals=hurried) == 256


jobs_strategy = st.lists(
    st.tuples(st.floats(1.0, 500.0), st.integers(1, 900)), min_size=1, max_size=8
)
arrivals_strategy = st.lists(
    st.tuples(st.floats(1.0, 500.0), st.integers(1, 4000)), max_size=4
).map(lambda classes: Arrivals(numbers=tuple(classes)))


@settings(max_examples=60, deadline=None)
@given(jobs=jobs_strategy, arrivals=arrivals_strategy, seed=st.integers(0, 100))
def test_the_order_of_jobs_and_batches_does_not_matter(
    jobs: list[tuple[float, int]], arrivals: Arrivals, seed: int
) -> None:
    views = [job(f"j{i}", deadline_s=s, num_pending=n) for i, (s, n) in enumerate(jobs)]
    held = [batch(i, deadline_s=s, num_open_problems=n) for i, (s, n) in enumerate(jobs)]
    before = rows(views, held, arrivals)
    assert before in {FLEET.limited(share).rows for share in SHARES}
    for shuffled in (views, held):
        Random(seed).shuffle(shuffled)
    mixed = Arrivals(
        arrivals.over_s, tuple(Random(seed).sample(arrivals.numbers, len(arrivals.numbers)))
    )
    assert rows(views, held, mixed) == before


@settings(max_examples=60, deadline=None)
@given(jobs=jobs_strategy, arrivals=arrivals_strategy, ended_per_s=st.floats(0.2, 50.0))
def test_problems_start_when_those_before_them_fit_in_the_rows(
    jobs: list[tuple[float, int]], arrivals: Arrivals, ended_per_s: float
) -> None:
    views = [job(f"j{i}", deadline_s=s, num_pending=n) for i, (s, n) in enumerate(jobs)]
    fluid = Fluid(jobs_table(views), batches_table([]), NOW.timestamp(), CONFIG, arrivals)
    [start_s] = fluid.starts_s(np.array([[100.0]]), np.array([[ended_per_s]]))

    def excess(index: int, at_s: float) -> float:
        """Problems before this one that are there and find no row at this moment."""
        come = sum(
            rate * min(at_s, max(fluid.due_s[index] - given_s, 0.0))
            for given_s, rate in zip(fluid.given_s, fluid.rate, strict=True)
        )
        return float(fluid.before[index] - 100.0 + come - ended_per_s * at_s)

    for index, at_s in enumerate(start_s.tolist()):
        earliest_s = float(fluid.come_s[index])
        assert at_s >= earliest_s
        if at_s > earliest_s:
            assert excess(index, at_s) == pytest.approx(0.0, abs=1e-6 * (1.0 + fluid.wanted))
            assert excess(index, (earliest_s + at_s) / 2) > 0.0
        else:
            assert excess(index, at_s) <= 1e-6


def test_workers_get_no_more_branches_than_the_limit() -> None:
    patient = job(deadline_s=300.0, num_pending=400, max_branches=1)
    workers = tuple(worker(name, rows=128) for name in ("w1", "w2"))
    calm = snapshot((patient,), workers=workers)
    crowded = replace(calm, arrivals=((MODEL, rate((4.0, 5.0))),))
    given_out = [
        sum(new.num_problems for new in decide(world, CONFIG).new_batches)
        for world in (calm, crowded)
    ]
    assert given_out[0] > 256
    assert 0 < given_out[1] < 256


def test_branches_that_would_never_end_count_until_the_engines_cut_them() -> None:
    lengths = ANSWERS.length_quantiles
    endless = replace(ANSWERS, length_quantiles=(*lengths[:-1], 1e5 * lengths[-1]))
    fleet = Fleet.of([worker("w1", rows=128, answers=endless), worker("w2", rows=128)])
    assert fleet.answers is endless
    line = jobs_table(HURRIED), batches_table([])
    assert limited(fleet, *line, NOW, CONFIG, NO_ARRIVALS).rows == rows(HURRIED) < 256
