"""Does the scheduler answer more problems right in time than any fixed split, at every load?

Replays an arrival trace as jobs of 1 to 50 problems with mixed deadlines on engines of the 32B
class (H100, tensor parallel 4) in virtual time: the production code decides, recorded branches and
a fitted latency stand in for the model. All numbers are simulated. Half of the problems are learned
from, the jobs draw from the other half. Every engine is off from its profile by a factor that is
drawn once with the profile's own spread, so that forecasts are tested and not confirmed.

Capacity (100% load) is the rate of problems per second at which one branch for each keeps all rows
of all engines busy that the KV cache holds, at the draft length that is best then. So 150% cannot
be served by anyone who gives every problem a whole branch, and voting over 8 fills the fleet at
12.5%.
Deadlines are 1, 2, 4 or 8 times the time of a median branch on a fully busy engine. Arrivals keep
the order and the burstiness of the trace, stretched to the load.

A miss counts as wrong, and so does every problem of a refused job. The other policies refuse nobody
and promise nothing; so that production is compared alike, its clients ask for `best_effort`: what
cannot be promised is answered as far as that goes. A job is attained when all its problems are
answered in time, which counts for promised jobs only; `goodput_at_90` is the highest rate of
submitted problems at which at least 90% of them get a vote in time, those of refused jobs counting
as none (bisection over the load).

The claims fail if production is significantly below the best fixed split, chosen in hindsight per
load; keeps less than 99% of the promises it made; has less than 1.5 times the `goodput_at_90` of
first come, first served with a fixed split; less than 90% of the clairvoyant bound at 60% load; or
needs more than 60% of the tokens of fixed majority voting with the same accuracy, at a light load
and without haste.

    python -m tests.benchmarks.load --recordings FILE --latency FILE --arrivals FILE --model M
        --dataset D [--records FILE] [--jobs 300] [--engines 4] [--loads 0.3,0.6,0.9,1.2,1.5]
    python -m tests.benchmarks.load --draw RECORDS --figure FILE
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.core.config import SchedulerConfig
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.simulation.records import Outcome
from scheduler.core.simulation.simulator import simulate
from tests.benchmarks.data import GPUS_PER_ENGINE
from tests.benchmarks.load_figure import draw
from tests.benchmarks.load_summary import line, records_of, standard_error, summarize
from tests.benchmarks.load_world import World
from tests.benchmarks.majority_voting import WIDTHS, majority_curve
from tests.benchmarks.policies.clairvoyant import most_right_answers
from tests.benchmarks.policies.fixed import earliest_deadline_first, fifo
from tests.benchmarks.policies.restricted import BRANCHES_ONLY, DRAFT_ONLY
from tests.benchmarks.policies.static_greedy import static_greedy

LOADS = (0.3, 0.6, 0.9, 1.2, 1.5)
LOOSE_FACTOR = 32.0
FIXED_BRANCHES = 8
"""Width of first come, first served and of the fixed split: where majority voting flattens."""
GRID_BRANCHES = (1, 2, 3, 4, 6, 8, 12, 16)
GRID_DRAFTS = (0, 1, 2, 3)
GOODPUT_LOADS = (0.01, 4.0)
GOODPUT_PRECISION = 0.05
PRODUCTION = Production(best_effort=True)


class Runs:
    """Simulations of one world, each made once."""

    def __init__(self, world: World, config: SchedulerConfig) -> None:
        self.world = world
        self.config = config
        self._done: dict[tuple[str, float], Outcome] = {}

    def outcome(self, policy: Policy, load: float) -> Outcome:
        """The outcome under this policy and load."""
        key = (policy.name, load)
        if key not in self._done:
            jobs = self.world.jobs(load)
            self._done[key] = simulate(jobs, self.world.workers, policy, self.config)
        return self._done[key]

    def best_fixed(self, load: float) -> Policy:
        """The split of the grid that turned out to be the most accurate at this load."""
        grid = [earliest_deadline_first(b, g) for b in GRID_BRANCHES for g in GRID_DRAFTS]
        return max(grid, key=lambda p: summarize(self.outcome(p, load))["accuracy"])

    def goodput_at_90(self, policy_at: Callable[[float], Policy]) -> float:
        """Highest rate of problems at which 90% of them get a vote in time.

        Args:
            policy_at: The policy for a load.
        """

        def attains(load: float) -> bool:
            outcome = self.outcome(policy_at(load), load)
            return summarize(outcome)["voted_in_time"] >= 0.9

        low, high = GOODPUT_LOADS
        if not attains(low):
            return 0.0
        while high / low > 1 + GOODPUT_PRECISION:
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if attains(middle) else (low, middle)
        return low * self.world.capacity


def tokens_at_equal_accuracy(world: World, config: SchedulerConfig) -> dict[str, Any]:
    """Tokens of production, at a light load with loose deadlines, against fixed majority voting.

    With tight deadlines accuracy is lost to time, which voting without a clock does not know. Both
    answer the same problems with the same branches, so chance does not tell them apart. Voting
    gets the least width that is at least as accurate as production. Where not even the widest is,
    it counts with the tokens of its most accurate width, which favors it. Where one branch is as
    accurate as production, voting does not pay for this model at all and the share, printed all
    the same, compares with that branch.
    """
    jobs = world.jobs(min(LOADS) / 4, factors=(LOOSE_FACTOR,))
    figures = summarize(simulate(jobs, world.workers, PRODUCTION, config))
    accuracy, tokens = majority_curve([problem for job in jobs for problem in job.problems])
    enough = np.flatnonzero(accuracy >= figures["accuracy"])
    column = int(enough[0]) if enough.size else int(accuracy.argmax())
    return {
        "accuracy": figures["accuracy"],
        "production": figures["tokens_per_problem"],
        "fixed_branches": WIDTHS[column],
        "fixed_accuracy": float(accuracy[column]),
        "fixed_majority": float(tokens[column]),
        "one_branch_accuracy": float(accuracy[0]),
        "most_fixed_accuracy": float(accuracy.max()),
        "share": figures["tokens_per_problem"] / float(tokens[column]),
    }


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the summary."""
    world = World.read(options)
    runs = Runs(world, SchedulerConfig())
    print(
        f"{len(world.workers)} engines of {GPUS_PER_ENGINE} GPUs, capacity"
        f" {world.capacity:.3f} problems/s, a median branch takes {world.branch_s:.0f} s"
    )
    records: list[dict[str, Any]] = []
    by_load: dict[str, Any] = {}
    for load in options.loads:
        jobs = world.jobs(load)
        bound = most_right_answers(jobs, world.workers) / sum(len(job.problems) for job in jobs)
        policies: dict[str, Policy] = {
            "production": PRODUCTION,
            "fifo": fifo(FIXED_BRANCHES),
            "edf_fixed": earliest_deadline_first(FIXED_BRANCHES, 0),
            "branches_only": BRANCHES_ONLY,
            "draft_only": DRAFT_ONLY,
            "static_greedy": static_greedy(),
            "best_fixed": runs.best_fixed(load),
        }
        print(f"\nload {load:.0%}, clairvoyant bound {bound:.3f}")
        figures: dict[str, Any] = {"clairvoyant": bound}
        for label, policy in policies.items():
            started_s = time.monotonic()
            outcome = runs.outcome(policy, load)
            figures[label] = {"name": policy.name, **summarize(outcome)}
            records += records_of(outcome, load, label)
            print(line(label, figures[label], time.monotonic() - started_s))
        best, ours = (runs.outcome(policies[key], load) for key in ("best_fixed", "production"))
        figures["gain_over_best_fixed"] = (
            figures["production"]["accuracy"] - figures["best_fixed"]["accuracy"]
        )
        figures["standard_error"] = standard_error(ours, best)
        figures["share_of_clairvoyant"] = figures["production"]["accuracy"] / max(bound, 1e-9)
        print(
            f"  over best fixed {figures['gain_over_best_fixed']:+.4f}"
            f" (+-{figures['standard_error']:.4f}), of the bound"
            f" {figures['share_of_clairvoyant']:.3f}"
        )
        by_load[f"{load:g}"] = figures
    summary: dict[str, Any] = {
        "benchmark": "load",
        "simulated": True,
        "model": options.model,
        "dataset": options.dataset,
        "num_jobs": options.jobs,
        "num_engines": options.engines,
        "capacity_problems_per_s": world.capacity,
        "loads": by_load,
    }
    summary["tokens"] = tokens_at_equal_accuracy(world, runs.config)
    print(f"\nwithout haste: {summary['tokens']}")
    if not options.skip_goodput:
        summary["goodput_at_90"] = {
            "production": runs.goodput_at_90(lambda _: PRODUCTION),
            "fifo": runs.goodput_at_90(lambda _: fifo(FIXED_BRANCHES)),
            "edf_fixed": runs.goodput_at_90(lambda _: earliest_deadline_first(FIXED_BRANCHES, 0)),
            "static_greedy": runs.goodput_at_90(lambda _: static_greedy()),
        }
    if options.records:
        lines = (json.dumps(record) + "\n" for record in records)
        options.records.write_text("".join(lines), encoding="utf-8")
    return summary


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.load")
    for name in ("recordings", "latency", "arrivals", "records", "draw", "figure"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--dataset")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-goodput", action="store_true", help="leave out the bisections")
    parser.add_argument(
        "--loads", type=lambda text: tuple(map(float, text.split(","))), default=LOADS
    )
    options = parser.parse_args()
    if options.draw:
        if not options.figure:
            parser.error("--draw needs --figure")
        draw(options.draw, options.figure)
        return 0
    needed = ("recordings", "latency", "arrivals", "model", "dataset")
    missing = [f"--{name}" for name in needed if not getattr(options, name)]
    if missing:
        parser.error(f"missing {', '.join(missing)}")
    print(json.dumps(bench(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
