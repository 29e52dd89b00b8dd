"""Do the forecasts that a job is admitted with hold?

Question: of jobs admitted by the production scheduler, how many finish within the P95 that they
were promised, and how far is the expected accuracy from the share of problems answered right, per
class of deadline?

Regimes: the simulated load of `load.py` at 60% of capacity, in many short runs, each with engines
that are off from their profile by factors drawn with the profile's own spread. Profiles are learned
from half of the problems (`learned`), or, as for a model never seen before, from 50 problems on top
of what the other models of the file teach (`warm`). Jobs draw from the problems not learned from,
and branches of a problem come in a new random order in every run. All numbers are simulated.

Which problems are learned from is chance, and it shifts accuracy by more than a model may be off:
the halves of 198 GPQA problems differ with a deviation of 6 points. So runs take turns as the parts
of one permutation are learned from, over which chance cancels out, and the table shows what is left
of it: by how much the learned problems were easier than those of the jobs (`chance`, in points of
single branches), and the standard error of the expected accuracy of one run, which no forecast can
go below (`floor`).

A finish whose P95 is the deadline itself is covered by design, because the worker answers then from
the votes there are; such jobs are counted apart, and coverage is that of the others. Intervals are
of a bootstrap over runs.

Falsified when: coverage of P95 is outside 93-97%, or the accuracy of a class of deadlines is off by
more than 2 points, by more than its interval explains.

    python -m tests.benchmarks.forecast --recordings FILE --latency FILE --arrivals FILE
        [--model M --dataset D] [--runs 12] [--records FILE]
"""

import argparse
import json
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fit_answers import RecordedProblem, fit_answers
from scheduler.core.latency import FloatArray
from scheduler.core.plan import EngineSpec
from scheduler.core.shrinkage import prior_of
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.simulator import simulate
from tests.benchmarks.data import H100_TP4, h100_tp4_latency, read_arrivals, recorded_pairs
from tests.benchmarks.forecast_summary import Record, line_of, summarize
from tests.benchmarks.load_world import PROMPT_TOKENS, World

LOAD = 0.6
WARM_PROBLEMS = 50
ENOUGH_PROBLEMS = 150
"""Pairs of model and data set with fewer are not judged: half of them says little."""
CUT_S = 1e-6


@dataclass(frozen=True)
class Pair:
    """Recorded problems of one model on one data set."""

    model: str
    dataset: str
    problems: Sequence[RecordedProblem]

    @property
    def spec(self) -> EngineSpec:
        """Engines that cut branches where the recordings were cut, if they were."""
        cuts = [t for p in self.problems for t, cut in zip(p.tokens, p.is_cut, strict=True) if cut]
        longest = max(cuts) + PROMPT_TOKENS if cuts else H100_TP4.max_model_len
        return replace(H100_TP4, max_model_len=longest)

    def split(self, seed: int, run: int, size: int) -> tuple[list[RecordedProblem], ...]:
        """Problems to learn from, `size` of them, and the others; runs go through all parts."""
        num_parts = len(self.problems) // size
        name = zlib.crc32(f"{self.model} {self.dataset}".encode())
        order = np.random.default_rng((seed, run // num_parts, name)).permutation(
            len(self.problems)
        )
        order = np.roll(order, -size * (run % num_parts))
        learned = [self.problems[i] for i in order[:size]]
        return learned, [self.problems[i] for i in order[size:]]


def main() -> None:
    """Runs all pairs, prints a table and, last, one JSON line."""
    args = parse_arguments()
    records = []
    with args.records.open("w", encoding="utf-8") as file:
        for record in measure(args):
            records.append(record)
            file.write(json.dumps(record) + "\n")
    rows = list(summarize(records))
    for row in rows:
        print(line_of(row))
    print(json.dumps({"load": LOAD, "rows": rows}))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--latency", type=Path, required=True)
    parser.add_argument("--arrivals", type=Path, required=True)
    parser.add_argument("--model", help="all models of the file by default")
    parser.add_argument("--dataset", help="all data sets of the file by default")
    parser.add_argument("--runs", type=int, default=12, help="of each pair and regime")
    parser.add_argument("--jobs", type=int, default=40, help="per run")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-forecast.jsonl"
    )
    return parser.parse_args()


def measure(args: argparse.Namespace) -> Iterator[Record]:
    """Yields one record per admitted job.

    Raises:
        ValueError: No pair that is asked for has enough problems.
    """
    pairs = [
        Pair(model, dataset, problems)
        for (model, dataset), problems in sorted(recorded_pairs(args.recordings).items())
    ]
    profiles = [
        fit_answers(p.problems, model=p.model, family=p.dataset, source=args.recordings.name)
        for p in pairs
    ]
    world_of = partial(
        World.of,
        believed=h100_tp4_latency(args.latency),
        arrivals=read_arrivals(args.arrivals),
        num_engines=args.engines,
        num_jobs=args.jobs,
    )
    judged_pairs = [
        pair
        for pair in pairs
        if args.model in (None, pair.model)
        and args.dataset in (None, pair.dataset)
        and len(pair.problems) >= ENOUGH_PROBLEMS
    ]
    if not judged_pairs:
        raise ValueError(
            f"{args.recordings} has no such model and data set with {ENOUGH_PROBLEMS} problems or"
            " more; half of fewer says little"
        )
    for pair in judged_pairs:
        others = [profile for profile in profiles if profile.model != pair.model]
        for regime in ("learned", "warm"):
            for run in range(args.runs):
                half = len(pair.problems) // 2
                size = WARM_PROBLEMS if regime == "warm" else half
                learned, judged = pair.split(args.seed, run, size)
                answers = learn(pair, learned, others if regime == "warm" else [])
                chance = {
                    "regime": regime,
                    "chance": right_share(learned).mean() - right_share(judged).mean(),
                    "floor": right_share(pair.problems).std() / len(learned) ** 0.5,
                }
                world = world_of(judged, answers, seed=args.seed + run, spec=pair.spec)
                for record in run_once(world):
                    yield {
                        "model": pair.model,
                        "dataset": pair.dataset,
                        "run": run,
                        **record,
                        **chance,
                    }


def right_share(problems: Sequence[RecordedProblem]) -> FloatArray:
    """Share of right branches of each problem."""
    return np.array([np.mean([vote == 0 for vote in problem.votes]) for problem in problems])


def learn(
    pair: Pair, problems: Sequence[RecordedProblem], others: Sequence[AnswerProfile]
) -> AnswerProfile:
    """What the scheduler would believe after these problems."""
    prior = prior_of(pair.model, pair.dataset, others)
    return fit_answers(
        problems,
        model=pair.model,
        family=pair.dataset,
        source="recordings",
        prior=prior.profile,
        prior_problems=prior.problems,
    )


def run_once(world: World) -> Iterator[Record]:
    """Yields the admitted jobs of one simulation."""
    config = SchedulerConfig()
    jobs = world.jobs(LOAD)
    outcome = simulate(jobs, world.workers, Production(), config)
    for job in outcome.jobs:
        if job.forecast is None:
            continue
        time_s = job.deadline_s - job.arrival_s
        yield {
            "deadline_factor": round(time_s / world.branch_s, 3),
            "num_problems": job.num_problems,
            "predicted_p50_s": job.forecast.finish_p50_s,
            "predicted_p95_s": job.forecast.finish_p95_s,
            "is_cut": job.forecast.finish_p95_s >= time_s - config.reserve_s - CUT_S,
            "finish_s": job.finish_s - job.arrival_s,
            "predicted_accuracy": job.forecast.accuracy,
            "accuracy": job.num_right / job.num_problems,
            "met_deadline": job.met_deadline,
        }


if __name__ == "__main__":
    main()
