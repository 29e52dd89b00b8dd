"""Jobs about as large as their engine, alone on it, through the production scheduler."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedWorker
from tests.scheduler.core import worlds
from tests.scheduler.core.simulation.drawn_jobs import jobs_of

SEEDS = 6


def right_share(num_problems: int, due_s: float) -> float:
    """Share of the answers that are right and in time, of promised jobs; the engine has 32 rows."""
    view = worlds.worker()
    engine = SimulatedWorker("w1", view.spec, view.latency, view.latency, view.answers)
    num_right = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        [one] = jobs_of("a", 1, num_problems=num_problems, every_s=1.0, due_s=due_s, rng=rng)
        alone = replace(one, tenant_share=1.0)
        [job] = simulate([alone], [engine], Production(), SchedulerConfig()).jobs
        assert job.is_promised
        assert job.met_deadline
        num_right += job.num_right
    return num_right / (SEEDS * num_problems)


@pytest.mark.parametrize(("num_problems", "due_s"), [(24, 3.44), (28, 3.8)])
def test_a_job_that_has_rows_for_all_problems_uses_them(num_problems: int, due_s: float) -> None:
    # With three quarters of the rows a quarter waits, and a cap of 280 tokens ends most branches.
    assert right_share(num_problems, due_s) > 0.3


@pytest.mark.parametrize(("num_problems", "due_s"), [(36, 5.5), (48, 7.5)])
def test_a_job_that_is_a_little_too_large_uses_the_time_that_it_has(
    num_problems: int, due_s: float
) -> None:
    # Under caps at which all would end within the deadline a third is right.
    assert right_share(num_problems, due_s) > 0.42
