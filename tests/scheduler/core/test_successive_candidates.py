"""Candidates whose branches follow one another."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.grid import Grid
from scheduler.core.offers import candidates_of
from scheduler.core.successive import uncut_tokens
from tests.scheduler.core.alone import best_plan
from tests.scheduler.core.worlds import ANSWERS, job, worker

CONFIG = SchedulerConfig()
FLEET = Fleet.of([worker()])
_easier = np.asarray(ANSWERS.weights) * np.asarray(ANSWERS.difficulty)[:, None] ** 12
# Nearly all branches are right, so that most votes are clear soon.
EASY = Fleet.of(
    [
        worker(
            answers=replace(ANSWERS, weights=tuple(map(tuple, (_easier / _easier.sum()).tolist())))
        )
    ]
)


def test_branches_follow_one_another_where_a_longer_time_gives_more_for_less() -> None:
    few = candidates_of(EASY, job(num_pending=1, max_branches=16), CONFIG)
    in_turn = few.plans[:, 3] > few.plans[:, 0]
    at_once = np.flatnonzero(~in_turn & (few.plans[:, 0] == 8))
    reached = few.accuracy[at_once].max() - CONFIG.accuracy_tie
    at_once = at_once[few.accuracy[at_once] >= reached]
    best = at_once[few.needed_s[at_once].argmin()]
    better = in_turn & (few.accuracy >= reached)
    better &= few.row_seconds < 0.7 * few.row_seconds[best]
    assert better.any()
    assert (few.needed_s[better] > few.needed_s[best]).all()
    assert (few.plans[in_turn, 3] <= 16).all()


def test_only_few_branches_follow_where_a_bound_cuts_or_votes_stay_open() -> None:
    def pairs(fleet: Fleet, most: int, max_tokens: int | None = None) -> set[tuple[int, ...]]:
        plans = candidates_of(fleet, job(max_branches=most, max_tokens=max_tokens), CONFIG).plans
        return set(map(tuple, plans[plans[:, 3] > 0][:, [0, 3]].tolist()))

    assert pairs(EASY, 16, max_tokens=700) == pairs(FLEET, 16) == {(1, 2), (2, 3), (3, 5)}
    assert pairs(FLEET, 4) == {(1, 2), (2, 3), (3, 4)}
    assert pairs(FLEET, 2) == {(1, 2)}
    assert pairs(FLEET, 1) == set()


def test_a_third_branch_that_is_stopped_where_two_agree_costs_less() -> None:
    options = candidates_of(FLEET, job(num_pending=4), CONFIG)

    def best(width: int, most: int) -> tuple[float, float]:
        own = (options.plans[:, [0, 3]] == (width, most)).all(axis=1)
        own &= options.accuracy >= options.accuracy[own].max() - 0.001
        return float(options.accuracy[own].max()), float(options.row_seconds[own].min())

    (at_once, dear), (after_two, cheap) = best(3, 0), best(2, 3)
    assert cheap < 0.9 * dear
    assert after_two > at_once - 0.02


def test_second_branches_are_forecast_as_cut_only_where_something_cuts() -> None:
    def grid_of(bound: int) -> Grid:
        engine = worker()
        spec = replace(engine.spec, max_model_len=100_000)
        return Grid.of(Fleet.of([replace(engine, spec=spec)]), job(max_tokens=bound), CONFIG)

    # Longer than the longest cap, which is no bound on what runs under the deadline.
    whole = grid_of(2 * int(ANSWERS.length_quantile(1.0)))
    assert whole.caps[-1] < uncut_tokens(ANSWERS)
    assert whole.cut == math.inf
    short = int(ANSWERS.length_quantile(0.95))
    assert 0.9 * short < grid_of(short).cut <= short
    retry = [width.max_branches for width in whole.widths].index(2)
    uncut, cut = (
        grid.forecast([job()]).accuracy[0, retry]
        for grid in (whole, whole._replace(cut=float(short)))
    )
    assert (uncut > cut).any()


def test_no_single_branch_is_followed_where_none_is_to_be_offered() -> None:
    wide = replace(CONFIG, branch_grid=(4, 2))
    plans = candidates_of(FLEET, job(max_branches=16), wide).plans
    assert set(plans[:, 0]) == {2, 4}
    assert set(plans[:, 3]) == {0, 3}
    # What the operator asks for is offered all the same.
    in_turn = replace(wide, successive_grid=((1, 16),))
    assert set(candidates_of(EASY, job(max_branches=16), in_turn).plans[:, 3]) == {0, 3, 16}


def test_a_second_branch_for_a_missing_answer_ends_about_when_one_does() -> None:
    # Few problems say little of the latest of them, but half of the jobs do not have one.
    for num_seen, name in ((15, "p50_s"), (15_000, "p95_s")):
        seen = replace(ANSWERS, num_problems_seen=num_seen)
        options = candidates_of(Fleet.of([worker(answers=seen)]), job(num_pending=20), CONFIG)
        of_one, finish_s = options.plans[:, 0] == 1, getattr(options, name)
        once, again = (of_one & (options.plans[:, 3] == most) for most in (0, 2))
        assert finish_s[again].max() < 1.5 * finish_s[once].max()


def test_branches_follow_one_another_for_long_where_votes_settle_most() -> None:
    by_difficulty = np.asarray(ANSWERS.weights).sum(axis=1)
    scattered = np.zeros_like(ANSWERS.weights)
    scattered[:, -1] = by_difficulty  # wrong answers hardly ever agree
    weights = tuple(map(tuple, scattered.tolist()))
    fleet = Fleet.of([worker(answers=replace(ANSWERS, weights=weights))])
    assert (candidates_of(fleet, job(max_branches=16), CONFIG).plans[:, 3] > 2).any()


@pytest.mark.parametrize(("pairs", "most"), [((), {0, 2, 3, 5}), (((1, 200),), {0, 2, 3, 5, 64})])
def test_a_grid_without_successive_plans_or_with_very_long_ones_works(
    pairs: tuple[tuple[int, int], ...], most: set[int]
) -> None:
    config = replace(CONFIG, successive_grid=pairs)
    assert set(candidates_of(EASY, job(max_branches=64), config).plans[:, 3]) == most
    assert best_plan(EASY, job(max_branches=64), config, time_left_s=3000.0) is not None
