"""A tenant with a hundred jobs beside one with a few, through the production scheduler."""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.config import SchedulerConfig
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.records import JobOutcome
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from tests.scheduler.core import worlds
from tests.scheduler.core.simulation.drawn_jobs import jobs_of

CONFIG = SchedulerConfig()


def run(jobs: list[SimulatedJob]) -> dict[str, list[JobOutcome]]:
    """Outcomes by tenant."""
    view = worlds.worker()
    engine = SimulatedWorker("w1", view.spec, view.latency, view.latency, view.answers)
    outcome = simulate(jobs, [engine], Production(), CONFIG)
    tenants = {job.tenant for job in jobs}
    return {name: [job for job in outcome.jobs if job.tenant == name] for name in tenants}


def num_right(outcomes: list[JobOutcome]) -> int:
    return sum(job.num_right for job in outcomes)


def num_answered(outcomes: list[JobOutcome]) -> int:
    return sum(job.num_answered for job in outcomes)


@pytest.mark.parametrize("seed", [1, 2])
def test_many_small_jobs_do_not_push_a_few_larger_ones_past_their_deadlines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    light = jobs_of("light", 5, num_problems=20, every_s=10.0, due_s=20.0, first_s=5.0, rng=rng)
    heavy = jobs_of("heavy", 100, num_problems=5, every_s=0.5, due_s=20.0, rng=rng)
    apart = run(light + heavy)
    assert all(job.is_admitted and job.met_deadline for job in apart["light"])
    # Rows are not left idle for it: as many answers are right as if nobody were told apart.
    together = run([replace(job, tenant="one", tenant_share=1.0) for job in light + heavy])
    right = sum(map(num_right, apart.values()))
    assert right > 0.9 * num_right(together["one"])


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_backlog_of_a_hundred_jobs_does_not_push_small_ones_past_their_deadlines(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    light = jobs_of("light", 8, num_problems=5, every_s=10.0, due_s=15.0, first_s=25.0, rng=rng)
    heavy = jobs_of("heavy", 100, num_problems=20, every_s=0.2, due_s=120.0, rng=rng)
    found = run(light + heavy)
    admitted = [job for job in found["light"] if job.is_admitted]
    # Promises that the backlog got before they came are kept, which may leave no time for some.
    assert len(admitted) >= len(light) - 2
    assert all(job.met_deadline for job in admitted)
    # The other is heavy indeed: it is refused some, and keeps the engine busy with the rest.
    refused = [job for job in found["heavy"] if not job.is_admitted]
    assert 10 < len(refused) < 90
    assert num_answered(found["heavy"]) > 1000
