"""The world of the load benchmark: engines, learned profiles, and jobs that follow a trace."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit_answers import RecordedProblem, fit_answers
from scheduler.core.latency import FloatArray, LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from tests.benchmarks.data import (
    GPUS_PER_ENGINE,
    H100_TP4,
    h100_tp4_latency,
    read_arrivals,
    read_halves,
)

MOST_PROBLEMS = 50
DEADLINE_FACTORS = (1.0, 2.0, 4.0, 8.0)
PROMPT_TOKENS = 150
"""Of a typical problem; recordings do not say."""


def fully_busy(
    spec: EngineSpec,
    latency: LatencyProfile,
    problems: Sequence[RecordedProblem],
    prompt_tokens: float,
) -> tuple[float, float]:
    """Problems per second of an engine at 100% load, and seconds of a median branch then."""
    tokens = np.concatenate([np.asarray(problem.tokens, float) for problem in problems])
    # Found at a random moment, a row is in a branch drawn in proportion to its length.
    context = prompt_tokens + float((tokens**2).mean() / tokens.mean() / 2)
    rows = min(spec.max_num_seqs, spec.kv_capacity_tokens / context)
    tpot_s = float(latency.tpot_s(rows, spec.draft_lengths, rows * context).min())
    return rows / tpot_s / float(tokens.mean()), float(np.median(tokens)) * tpot_s


@dataclass(frozen=True)
class World:
    """What all policies are given.

    Attributes:
        problems: The half that the jobs draw from.
        capacity: Problems per second at 100% load.
        branch_s: Time of a median branch on a fully busy engine.
    """

    workers: tuple[SimulatedWorker, ...]
    problems: tuple[RecordedProblem, ...]
    arrivals: FloatArray
    capacity: float
    branch_s: float
    num_jobs: int
    seed: int

    @classmethod
    def read(cls, options: argparse.Namespace) -> "World":
        """Read the files that the command line names, and fit the profiles."""
        learned, judged = read_halves(
            options.recordings, options.model, options.dataset, seed=options.seed
        )
        answers = fit_answers(
            learned, model=options.model, family=options.dataset, source=options.recordings.name
        )
        return cls.of(
            judged,
            answers,
            believed=h100_tp4_latency(options.latency),
            arrivals=read_arrivals(options.arrivals),
            num_engines=options.engines,
            num_jobs=options.jobs,
            seed=options.seed,
        )

    @classmethod
    def of(
        cls,
        judged: Sequence[RecordedProblem],
        answers: AnswerProfile,
        *,
        believed: LatencyProfile,
        arrivals: FloatArray,
        num_engines: int,
        num_jobs: int,
        seed: int,
        spec: EngineSpec = H100_TP4,
    ) -> "World":
        """A world in which the scheduler believes these profiles of answers and latency."""
        rng = np.random.default_rng((seed, 1))
        spec = replace(spec, model=answers.model)
        workers = tuple(
            SimulatedWorker(
                name=f"w{number:04}",
                spec=spec,
                latency=believed.scaled(float(np.exp(rng.normal(0, believed.residual_sigma)))),
                believed_latency=believed,
                believed_answers=answers,
                num_gpus=GPUS_PER_ENGINE,
            )
            for number in range(num_engines)
        )
        problems_per_s, branch_s = fully_busy(spec, believed, judged, PROMPT_TOKENS)
        return cls(
            workers=workers,
            problems=tuple(judged),
            arrivals=arrivals,
            capacity=len(workers) * problems_per_s,
            branch_s=branch_s,
            num_jobs=num_jobs,
            seed=seed,
        )

    def jobs(self, load: float, factors: Sequence[float] = DEADLINE_FACTORS) -> list[SimulatedJob]:
        """The same jobs at every load; only the time between them differs.

        Args:
            factors: Deadlines in times of a median branch.
        """
        rng = np.random.default_rng((self.seed, 2))
        sizes = rng.integers(1, MOST_PROBLEMS + 1, self.num_jobs)
        drawn = rng.choice(factors, self.num_jobs)
        gaps_s = self.arrivals[: self.num_jobs] - self.arrivals[0]
        span_s = float(sizes.sum()) / (load * self.capacity)
        arrivals_s = gaps_s / gaps_s[-1] * span_s
        return [
            SimulatedJob(
                id=f"job{number:06}",
                tenant="tenant",
                model=self.workers[0].spec.model,
                arrival_s=float(arrival_s),
                deadline_s=float(arrival_s + factor * self.branch_s),
                problems=tuple(self._draw(rng) for _ in range(size)),
                prompt_tokens=PROMPT_TOKENS,
            )
            for number, (arrival_s, size, factor) in enumerate(
                zip(arrivals_s, sizes, drawn, strict=True)
            )
        ]

    def _draw(self, rng: np.random.Generator) -> RecordedProblem:
        problem = self.problems[rng.integers(len(self.problems))]
        order = rng.permutation(len(problem.tokens))
        return replace(
            problem,
            classes=tuple(problem.classes[i] for i in order),
            tokens=tuple(problem.tokens[i] for i in order),
        )
