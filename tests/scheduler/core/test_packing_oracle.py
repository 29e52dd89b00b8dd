"""Packing against a bound on the optimum that OR-Tools proves under the same demand bounds."""

import numpy as np
import pytest
from ortools.sat.python import cp_model

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.placing import place
from scheduler.core.upgrades import upgrade
from tests.scheduler.core.slack import holds
from tests.scheduler.core.worlds import NOW, batch, job, worker

# The optimum knows no price.
CONFIG = SchedulerConfig(branch_price=0.0)
TICKS_PER_S = 100_000
UNITS = 1_000_000
CASES = 200
PROVEN = 0.005


def random_bounds(seed: int) -> Bounds:
    """Three to six jobs that want more than there is."""
    rng = np.random.default_rng(seed)
    fleet = Fleet.of([worker(rows=int(rng.choice([16, 64, 256])))])
    count = int(rng.integers(3, 7))
    scale = float(rng.uniform(0.3, 3.0))
    jobs = [
        job(
            f"job_{index}",
            deadline_s=float(rng.uniform(3.0, 60.0)) * scale + 3.0,
            num_pending=int(rng.integers(1, 80) * scale) + 1,
            max_branches=int(rng.choice([4, 16, 64])),
            weight=float(rng.choice([0.5, 1.0, 1.0, 4.0])),
        )
        for index in range(count)
    ]
    held = [batch(num_open_branches=int(rng.integers(0, 60)), deadline_s=float(rng.uniform(5, 90)))]
    return place(Bounds(fleet, jobs, held, NOW, CONFIG))


def weighted_accuracy(bounds: Bounds) -> float:
    jobs = np.flatnonzero(bounds.chosen != LATE)
    return float((bounds.values[jobs] * bounds.accuracies(jobs, bounds.chosen[jobs])).sum())


def most(bounds: Bounds) -> float:
    """No total of the same jobs in time, over all their candidates, is higher.

    By constraint programming, which begins with what was packed and stops once the bound is within
    `PROVEN` of a total that it has found. Costs and finishes are rounded to 10 microseconds, in
    favor of the optimum.
    """
    model = cp_model.CpModel()
    before = [int(ticks) for ticks in np.floor(bounds.running_s * TICKS_PER_S)]
    late_cost_s = np.where(bounds.chosen == LATE, bounds.cost_s, 0.0)
    total: list[cp_model.LinearExpr] = []
    work: list[cp_model.LinearExpr] = []
    for index in range(len(bounds.jobs)):
        if bounds.chosen[index] == LATE:
            work.append(cp_model.LinearExpr.constant(int(late_cost_s[index] * TICKS_PER_S)))
            continue
        candidates = np.flatnonzero(bounds.menus.is_useful[bounds.classes[index]])
        one = np.full(len(candidates), index)
        cost = np.floor(bounds.costs_s(one, candidates) * TICKS_PER_S).astype(int)
        start = np.ceil(bounds.must_starts_s(one, candidates) * TICKS_PER_S).astype(int)
        value = bounds.values[index] * bounds.accuracies(one, candidates) * UNITS
        picks = [model.new_bool_var(f"{index}:{candidate}") for candidate in candidates]
        model.add_exactly_one(picks)
        for pick, candidate in zip(picks, candidates.tolist(), strict=True):
            model.add_hint(pick, candidate == bounds.chosen[index])
        ahead = cp_model.LinearExpr.sum(work) + before[index]
        for pick, latest in zip(picks, start.tolist(), strict=True):
            model.add(ahead <= latest).only_enforce_if(pick)
        work.append(cp_model.LinearExpr.weighted_sum(picks, cost.tolist()))
        total.append(cp_model.LinearExpr.weighted_sum(picks, value.astype(int).tolist()))
    model.maximize(cp_model.LinearExpr.sum(total))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.relative_gap_limit = PROVEN
    assert solver.solve(model) == cp_model.OPTIMAL
    return solver.best_objective_bound / UNITS


@pytest.mark.parametrize("first", range(0, CASES, 25))
def test_packing_is_within_two_percent_of_the_optimum(first: int) -> None:
    gaps = []
    for seed in range(first, first + 25):
        bounds = random_bounds(seed)
        if not (bounds.chosen != LATE).any():
            continue
        upgrade(bounds)
        assert holds(bounds)
        best = most(bounds)
        found = weighted_accuracy(bounds)
        assert found <= best + 1e-3
        gaps.append(1.0 - found / best)
    assert len(gaps) > 20
    assert max(gaps) <= 0.02
