"""Which prices of rows answer most problems right in time, over all recorded models and loads?

The price of a row-second under load has five numbers that no formula gives: `row_price` and
`branch_price` of the configuration, and `CROWDED`, `STEEPNESS` and `SLOWING` of
`scheduler/core/upgrades.py`. This is the procedure that they must hold against: one at a time is
changed, every pair of model and data set is run under every load of the simulated world of
`load.py` (one half of the problems is learned from, jobs draw from the other), and what is right in
time is compared job by job with what is shipped. Data sets of few problems count too: a half of 15
problems says little about a model, but they are the hard ones, where votes gain most.

Printed are, for each change, the mean gain over pairs and loads in points with its standard error
(jobs being the independent units), the gain at each load, the gain of the pair that it serves
worst, and tokens relative to what is shipped. All numbers are simulated.

The shipped numbers are wrong if a change gains more than twice its standard error.

    python -m tests.benchmarks.prices --recordings FILE --latency FILE --arrivals FILE
        [--jobs 80] [--engines 4] [--loads 0.1,0.3,0.6,0.9,1.2] [--processes 2] [--seed 0]
"""

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from scheduler.core import upgrades
from scheduler.core.config import SchedulerConfig
from scheduler.core.latency import FloatArray
from scheduler.core.simulation.simulator import simulate
from tests.benchmarks.data import recorded_pairs
from tests.benchmarks.load import PRODUCTION
from tests.benchmarks.load_world import World

LOADS = (0.1, 0.3, 0.6, 0.9, 1.2)
LEAST_PROBLEMS = 20
SHIPPED = f"row_price={SchedulerConfig().row_price}"
CHANGES = (
    "row_price=0.5",
    "row_price=2.0",
    "CROWDED=1.0",
    "CROWDED=1.4",
    "STEEPNESS=6",
    "STEEPNESS=24",
    "SLOWING=0.0",
    "SLOWING=0.06",
    "SLOWING=0.24",
    "branch_price=0.0",
    "branch_price=0.003",
)


def main() -> None:
    """Runs all changes and prints, last, one JSON line."""
    args = parse_arguments()
    pairs = [
        pair
        for pair, problems in recorded_pairs(args.recordings).items()
        if len(problems) >= LEAST_PROBLEMS
    ]
    rows = []
    with ProcessPoolExecutor(args.processes) as pool:
        shipped = list(pool.map(partial(run, args, SHIPPED), pairs))
        for change in args.changes:
            changed = list(pool.map(partial(run, args, change), pairs))
            rows.append(row_of(change, pairs, shipped, changed, args.loads))
            print(line_of(rows[-1]), flush=True)
    right = sum(one["right"].sum() for one in shipped)
    total = sum(one["problems"] for one in shipped) * len(args.loads)
    print(json.dumps({"simulated": True, "shipped_accuracy": right / total, "rows": rows}))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--latency", type=Path, required=True)
    parser.add_argument("--arrivals", type=Path, required=True)
    parser.add_argument("--changes", nargs="+", default=CHANGES, metavar="NAME=VALUE")
    parser.add_argument("--jobs", type=int, default=80)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--loads", type=lambda text: tuple(map(float, text.split(","))), default=LOADS
    )
    return parser.parse_args()


def run(args: argparse.Namespace, change: str, pair: tuple[str, str]) -> dict[str, Any]:
    """Simulate one pair at all loads under a change.

    Returns:
        `right`: right answers in time, (loads, jobs); `problems` of all jobs; `tokens`: (loads,).
    """
    model, dataset = pair
    world = World.read(argparse.Namespace(**vars(args) | {"model": model, "dataset": dataset}))
    name, value = change.split("=")
    right, tokens = [], []
    with ExitStack() as stack:
        config = SchedulerConfig()
        if name.isupper():
            stack.enter_context(patch.object(upgrades, name, float(value)))
        else:
            config = replace(config, **{name: float(value)})  # type: ignore[arg-type]
        for load in args.loads:
            outcome = simulate(world.jobs(load), world.workers, PRODUCTION, config)
            right.append([job.num_right for job in outcome.jobs])
            tokens.append(sum(job.tokens for job in outcome.jobs))
    return {
        "right": np.array(right),
        "problems": sum(job.num_problems for job in outcome.jobs),
        "tokens": np.array(tokens, dtype=np.float64),
    }


def row_of(
    change: str,
    pairs: Iterable[tuple[str, str]],
    shipped: list[dict[str, Any]],
    changed: list[dict[str, Any]],
    loads: tuple[float, ...],
) -> dict[str, Any]:
    """What a change gains; every pair and load counts alike."""
    gained: list[FloatArray] = []
    tokens = []
    for before, after in zip(shipped, changed, strict=True):
        gained.append(100.0 * (after["right"] - before["right"]) / before["problems"])
        tokens.append(after["tokens"] / before["tokens"])
    gains = np.sum(gained, axis=2)
    # Jobs are alike in size, deadline and arrival for all pairs and loads.
    by_job = np.mean(gained, axis=(0, 1))
    by_pair = gains.mean(axis=1)
    names = [f"{model} {dataset}" for model, dataset in pairs]
    worst = int(by_pair.argmin())
    return {
        "change": change,
        "gain_points": float(by_pair.mean()),
        "standard_error": float(by_job.std() * np.sqrt(len(by_job))),
        "by_load": dict(zip(map(str, loads), gains.mean(axis=0).round(3).tolist(), strict=True)),
        "worst_pair": names[worst],
        "worst_gain": float(by_pair[worst]),
        "tokens": float(np.mean(tokens)),
    }


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    loads = ", ".join(f"{load} {gain:+.2f}" for load, gain in row["by_load"].items())
    return (
        f"{row['change']:20} {row['gain_points']:+.2f}"
        f" (+-{row['standard_error']:.2f}) points; {loads};"
        f" worst {row['worst_pair']} {row['worst_gain']:+.2f}; tokens {row['tokens']:.2f}"
    )


if __name__ == "__main__":
    main()
