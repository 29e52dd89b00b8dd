"""Does the service keep its word on a real engine, and does it beat fixed splits there?

Everything here is measured: the torch engine with the shipped demo model on this machine, real
Postgres, Redis, API, scheduler and Celery worker. Nothing is simulated or replayed.

1. Forecast: mixed jobs of 1 to 40 arithmetic problems, made for this and never trained on, arrive
over HTTP at random moments so that they overlap. Deadlines go from 1.15 to 10 times the earliest
finish that a quote names at that moment. Compared are the finish (P50, P95) and the accuracy that a
job is admitted with, and what came. A finish whose P95 is the deadline itself is covered by design,
because the worker answers then from the votes that it has; coverage is given for the others too.

Falsified when: coverage of P95 is below 90%, or the expected accuracy is off by more than its
interval explains.

2. Policies: the jobs of `load.py` (1 to 50 problems, deadlines of 1, 2, 4 or 8 times a median
branch on the fully busy engine) at 40, 80 and 120% of its capacity as defined there, computed from
the latency profile that the worker measured; memoryless arrivals. Each policy gets the same
problems at the same moments. Production is asked over HTTP; as the others refuse nobody, its
clients ask for `best_effort`, and what cannot be promised is answered as far as that goes. The
others are first come, first served with majority voting over 8 branches without drafts, and nearest
deadline first under the fixed split that a simulation of these jobs likes best. Their jobs are
stored as the API stores them; engines keep taking waiting branches by deadline under every policy.
A miss or a refusal counts as wrong.

Falsified when: production answers significantly fewer problems right in time than one of the
others, or attains less than 99% of the jobs that it promised.

How much of the machine other programs used is measured and part of the result: the engine needs one
core and the service's other processes a part of the second.

    python -m tests.benchmarks.real [--parts forecast,policies] [--records FILE]
    python -m tests.benchmarks.real --draw RECORDS --figures FOLDER
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import structlog

from tests.benchmarks import real_forecast, real_policies
from tests.benchmarks.real_figure import draw
from tests.benchmarks.real_jobs import Record


def main() -> None:
    """Measures, prints every job and, last, one JSON line; or draws the figures."""
    args = parse_arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if args.draw:
        draw(args.draw, args.figures)
        return
    summary: dict[str, Any] = {"benchmark": "real", "simulated": False}
    with args.records.open("w", encoding="utf-8") as file:

        def keep(record: Record) -> Record:
            file.write(json.dumps(record) + "\n")
            file.flush()
            return record

        if "forecast" in args.parts:
            records = []
            for record in real_forecast.measure(args.jobs, args.gap_s, args.seed):
                records.append(keep(record))
                print(real_forecast.line_of(record), flush=True)
            summary["forecast"] = real_forecast.summarize(records)
        if "policies" in args.parts:
            measured = real_policies.measure(args.loads, args.span_s, args.seed)
            outcomes = [keep(record) for record in measured]
            runs = real_policies.summarize_runs(outcomes)
            for load, rows in runs.items():
                for label, row in rows.items():
                    print(real_policies.line_of(load, label, row))
            summary["policies"] = runs
            summary["gains_points"] = real_policies.gains(outcomes)
    print(json.dumps(summary))


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="forecast,policies")
    parser.add_argument("--jobs", type=int, default=30, help="of the forecast")
    parser.add_argument("--gap-s", type=float, default=6.0, help="mean time between their arrivals")
    parser.add_argument(
        "--loads",
        type=lambda text: tuple(map(float, text.split(","))),
        default=real_policies.LOADS,
    )
    parser.add_argument(
        "--span-s", type=float, default=50.0, help="of arrivals per policy and load"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", type=Path, metavar="RECORDS", help="draw figures, run nothing")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-real.jsonl"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
