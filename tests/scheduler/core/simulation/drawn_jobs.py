"""Jobs whose branches are drawn at random."""

import numpy as np

from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.simulation.world import SimulatedJob
from tests.scheduler.core import worlds

SAMPLES = 16


def jobs_of(
    tenant: str,
    count: int,
    *,
    num_problems: int,
    every_s: float,
    due_s: float,
    rng: np.random.Generator,
    first_s: float = 0.0,
) -> list[SimulatedJob]:
    """Jobs of half the rows' share that arrive evenly, each due some time after its arrival."""
    found = []
    for number in range(count):
        problems = []
        for _ in range(num_problems):
            classes = np.where(rng.random(SAMPLES) < rng.uniform(0.2, 0.95), 0, 1)
            tokens = np.ceil(450 * rng.lognormal(0.0, 0.5, SAMPLES)).astype(int)
            problems.append(RecordedProblem(tuple(classes.tolist()), tuple(tokens.tolist())))
        at_s = first_s + number * every_s
        found.append(
            SimulatedJob(
                f"{tenant}-{number}",
                tenant,
                worlds.MODEL,
                at_s,
                at_s + due_s,
                tuple(problems),
                100,
                tenant_share=0.5,
            )
        )
    return found
