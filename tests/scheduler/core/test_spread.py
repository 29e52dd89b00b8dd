"""The spread of runs: told apart from noise, sane for few runs, and covering new ones."""

import numpy as np
import pytest

from scheduler.core.spread import PRIOR_SIGMA, Z95, run_sigma, variance_between


def test_noise_within_cells_is_no_variance_between_them() -> None:
    rng = np.random.default_rng(0)
    cells = np.repeat(np.arange(40), 5)
    noise = 0.1 * rng.standard_normal((50, 200))
    shifts = 0.2 * rng.standard_normal((50, 40))[:, cells]
    alone = [variance_between(row.tolist(), cells.tolist()) for row in noise]
    shifted = [variance_between(row.tolist(), cells.tolist()) for row in noise + shifts]
    assert max(alone) < 0.05**2
    assert np.mean(shifted) == pytest.approx(0.04, rel=0.1)


def test_one_cell_says_nothing() -> None:
    assert variance_between([0.1, 0.2], ["a", "a"]) == 0.0


def test_runs_never_repeated_are_worth_the_prior() -> None:
    assert PRIOR_SIGMA < run_sigma(()) == run_sigma([0.3]) < 1.5 * PRIOR_SIGMA


@pytest.mark.parametrize("num_runs", [3, 10, 100])
@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_a_new_run_stays_below_the_bound_as_often_as_it_says(num_runs: int, sigma: float) -> None:
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(2000):
        runs = sigma * rng.standard_normal(num_runs)
        below += sigma * rng.standard_normal() < runs.mean() + Z95 * run_sigma(runs.tolist())
    # Three runs that vary three times as much as the prior says are believed in part.
    assert below / 2000 >= (0.84 if num_runs == 3 else 0.92)
