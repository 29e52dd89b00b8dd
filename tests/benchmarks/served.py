"""Runs problems through the whole service, for benchmarks that compare it with something plain."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from api.client import Client
from api.client.shapes import TERMINAL_STATES, Job, Plan, Problem, Result
from tests.stack import open_folder, running_stack

DEMO_MODEL = Path("worker/demo_model")
MODEL = "slackline-demo"
TEMPERATURE = 0.8
START_TIMEOUT_S = 600.0

UNHURRIED = timedelta(minutes=10)
"""So that the cap on branches, not the deadline, says how many there are."""


def first_problems(num_problems: int) -> list[Problem]:
    """Problems of the shipped set, with their answers; from its beginning again where it ends."""
    lines = (DEMO_MODEL / "arithmetic.jsonl").read_text().splitlines()
    problems: list[Problem] = [json.loads(line) for line in lines]
    again = range(-(-num_problems // len(problems)))
    repeated: list[Problem] = [
        {**problem, "id": f"{problem['id']}-{turn}"} for turn in again for problem in problems
    ]
    return repeated[:num_problems]


def run_job(
    client: Client, problems: list[Problem], deadline: timedelta, num_branches: int | None = None
) -> tuple[Job, list[Result]]:
    """Submit over HTTP and wait for the end; the results have their branches."""
    job = client.submit(
        problems, model=MODEL, deadline=deadline, max_branches=num_branches, temperature=TEMPERATURE
    )
    while job["state"] not in TERMINAL_STATES:
        time.sleep(0.5)
        job = client.job(job["id"])
    return job, list(client.results(job["id"], branches=True))


def tokens_of(results: Sequence[Result]) -> int:
    """Completion tokens of all branches, those that were aborted too."""
    return sum(
        branch["completion_tokens"] for result in results for branch in result["branches"] or ()
    )


def duration_s(job: Job) -> float:
    """Seconds from submission to the last committed answer."""
    assert job["finished_at"] is not None, job
    finished_at = datetime.fromisoformat(job["finished_at"])
    return (finished_at - datetime.fromisoformat(job["created_at"])).total_seconds()


Decode: TypeAlias = Callable[[Sequence[str], Plan], tuple[int, float]]
"""Prompts and the plan of a job to completion tokens and seconds, without the service."""


def compare_in_turn(engine: str, plain: Mapping[str, Decode]) -> None:
    """Alternates jobs on an engine of the service with the same branches decoded without it.

    A problem has one branch. With more, votes that are decided early and branches that open votes
    get later make it another piece of work than the plan's number of branches at once.

    Prints every round and, last, one JSON line with the ratio of the medians: the service's to each
    of the plain ways.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-overhead.jsonl"
    )
    args = parser.parse_args()
    problems = first_problems(args.problems)
    rates: dict[str, list[float]] = {way: [] for way in ("service", *plain)}
    with (
        open_folder() as folder,
        running_stack(folder, engine, timeout_s=START_TIMEOUT_S) as stack,
        stack.client() as client,
        args.records.open("w", encoding="utf-8") as file,
    ):
        for number in range(-1, args.rounds):  # round -1 warms both up
            job, results = run_job(client, problems, UNHURRIED, num_branches=1)
            plan = job["plan"]
            assert plan is not None, job
            measured = {
                "service": (tokens_of(results), duration_s(job)),
            }
            for way, decode in plain.items():
                measured[way] = decode([problem["prompt"] for problem in problems], plan)
            for way, (tokens, elapsed_s) in measured.items():
                record: dict[str, Any] = {
                    "way": way,
                    "round": number,
                    "completion_tokens": tokens,
                    "elapsed_s": round(elapsed_s, 3),
                    "tokens_per_s": round(tokens / elapsed_s, 1),
                    "num_speculative_tokens": plan["num_speculative_tokens"],
                    "max_tokens": plan["max_tokens"],
                }
                file.write(json.dumps(record) + "\n")
                print(record, flush=True)
                if number >= 0:
                    rates[way].append(tokens / elapsed_s)
    medians = {way: round(statistics.median(values), 1) for way, values in rates.items()}
    ratios = {f"ratio_to_{way}": round(medians["service"] / medians[way], 3) for way in plain}
    print(json.dumps({**medians, **ratios}))
