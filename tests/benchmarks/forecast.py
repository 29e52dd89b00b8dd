"""Do the forecasts that a job is admitted with hold?

Question: of jobs admitted by the production scheduler, how many finish within the P95 that they
were promised, and how far is the expected accuracy from the share of problems answered right, per
class of deadline?

Regimes: the simulated load of `load.py` at 60% of capacity, in many short runs, each with engines
that are off from their profile by factors drawn with the profile's own spread. Profiles are learned
from half of the problems (`learned`), or, as for a model never seen before, from 50 problems on top
of what the other models of the file teach (`warm`). Jobs draw from the problems not learned from,
and branches of a problem come in a new random order in every run. All numbers are simulated.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fit_answers import RecordedProblem, fit_answers
from scheduler.core.shrinkage import prior_of
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.simulator import simulate
from tests.benchmarks.data import recorded_pairs
from tests.benchmarks.load_world import DEADLINE_FACTORS, World

LOAD = 0.6
WARM_PROBLEMS = 50
ENOUGH_PROBLEMS = 150
"""Pairs of model and data set with fewer are not judged: half of them says little."""
BOOTSTRAP_ROUNDS = 2000
CUT_S = 1e-6

Record = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Recorded problems of one model on one data set."""

    model: str
    dataset: str
    problems: Sequence[RecordedProblem]

    def split(self, rng: np.random.Generator, size: int) -> tuple[list[RecordedProblem], ...]:
        """Problems to learn from, `size` of them, and the others."""
        order = rng.permutation(len(self.problems))
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
    """Yields one record per admitted job."""
    pairs = [
        Pair(model, dataset, problems)
        for (model, dataset), problems in sorted(recorded_pairs(args.recordings).items())
    ]
    profiles = [
        fit_answers(p.problems, model=p.model, family=p.dataset, source=args.recordings.name)
        for p in pairs
    ]
    for pair in pairs:
        is_asked = args.model in (None, pair.model) and args.dataset in (None, pair.dataset)
        if not is_asked or len(pair.problems) < ENOUGH_PROBLEMS:
            continue
        others = [profile for profile in profiles if profile.model != pair.model]
        for regime in ("learned", "warm"):
            for run in range(args.runs):
                rng = np.random.default_rng((args.seed, run))
                half = len(pair.problems) // 2
                learned, judged = pair.split(rng, WARM_PROBLEMS if regime == "warm" else half)
                answers = learn(pair, learned, others if regime == "warm" else [])
                yield from run_once(args, pair, answers, judged, regime, run)


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


def run_once(
    args: argparse.Namespace,
    pair: Pair,
    answers: AnswerProfile,
    judged: Sequence[RecordedProblem],
    regime: str,
    run: int,
) -> Iterator[Record]:
    """Yields the admitted jobs of one simulation."""
    world = World.read(
        argparse.Namespace(
            **{**vars(args), "model": pair.model, "dataset": pair.dataset, "seed": args.seed + run}
        )
    )
    workers = tuple(replace(worker, believed_answers=answers) for worker in world.workers)
    world = replace(world, workers=workers, problems=tuple(judged))
    config = SchedulerConfig()
    jobs = world.jobs(LOAD)
    outcome = simulate(jobs, world.workers, Production(), config)
    for job in outcome.jobs:
        if job.forecast is None:
            continue
        time_s = job.deadline_s - job.arrival_s
        yield {
            "model": pair.model,
            "dataset": pair.dataset,
            "regime": regime,
            "run": run,
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


def summarize(records: Sequence[Record]) -> Iterator[Record]:
    """Yields coverage and accuracy errors per regime, over all pairs and for each."""
    groups = {("all", "all"): list(records)}
    for record in records:
        groups.setdefault((record["model"], record["dataset"]), []).append(record)
    for (model, dataset), group in groups.items():
        for regime in ("learned", "warm"):
            mine = [record for record in group if record["regime"] == regime]
            free = [record for record in mine if not record["is_cut"]]
            errors = {
                f"{factor:g}": weighted_error([r for r in mine if r["deadline_factor"] == factor])
                for factor in DEADLINE_FACTORS
            }
            yield {
                "model": model,
                "dataset": dataset,
                "regime": regime,
                "num_jobs": len(mine),
                "num_free": len(free),
                "coverage_p50": coverage(free, "predicted_p50_s"),
                "coverage_p95": coverage(free, "predicted_p95_s"),
                "attainment": round(float(np.mean([r["met_deadline"] for r in mine])), 4),
                "accuracy_error_points": errors,
            }


def coverage(records: Sequence[Record], predicted: str) -> list[float] | None:
    """Share of finishes within a forecast, and its 95% interval; None without records."""
    if not records:
        return None
    within = np.array([record["finish_s"] <= record[predicted] for record in records], float)
    return with_interval(within, np.ones(len(within)), records, scale=1.0)


def weighted_error(records: Sequence[Record]) -> list[float] | None:
    """Expected minus realized accuracy in points over problems, and its 95% interval."""
    if not records:
        return None
    gap = np.array([record["predicted_accuracy"] - record["accuracy"] for record in records])
    sizes = np.array([record["num_problems"] for record in records], float)
    return with_interval(gap, sizes, records, scale=100.0)


def with_interval(
    values: Any, weights: Any, records: Sequence[Record], *, scale: float
) -> list[float]:
    """Weighted mean, and its interval over resampled runs: jobs of a run share their engines."""
    names = [(r["model"], r["dataset"], r["run"]) for r in records]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    owner = np.array([index[name] for name in names])
    totals = np.bincount(owner, weights * values)
    counts = np.bincount(owner, weights)
    drawn = np.random.default_rng(0).integers(0, len(index), (BOOTSTRAP_ROUNDS, len(index)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [round(scale * float(v), 4) for v in (totals.sum() / counts.sum(), low, high)]


def line_of(row: Record) -> str:
    """One row of the table."""

    def percent(value: list[float] | None) -> str:
        if value is None:
            return "      -"
        return f"{100 * value[0]:5.1f} [{100 * value[1]:5.1f}, {100 * value[2]:5.1f}]"

    errors = "  ".join(
        f"{factor}x {error[0]:+5.1f} [{error[1]:+5.1f}, {error[2]:+5.1f}]"
        if error
        else f"{factor}x -"
        for factor, error in row["accuracy_error_points"].items()
    )
    return (
        f"{row['model'][:14]:14} {row['dataset'][:8]:8} {row['regime']:7} {row['num_jobs']:5d} jobs"
        f" {row['num_free']:5d} free  P50 {percent(row['coverage_p50'])}"
        f"  P95 {percent(row['coverage_p95'])}  met {100 * row['attainment']:5.1f}  {errors}"
    )


if __name__ == "__main__":
    main()
