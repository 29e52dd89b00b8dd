"""What does the way through API, scheduler, Celery and Postgres cost the torch engine?

Question: tokens per second of a job submitted over HTTP against those of the same engine called
directly with the same prompts, width, draft length and cap.

Regimes: the demo model, one worker, all on this machine, so that the service's own processes take
their share of the same cores. Rounds alternate between the two; the ratio of medians is quoted. A
job's time runs from its submission to its last committed answer. Its aborted branches count with
the tokens that they had decoded, as they did cost the engine.

Falsified when: the ratio of medians is below 0.90.

    python -m tests.benchmarks.overhead
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from api.client import Client
from api.client.client import TERMINAL_STATES
from api.client.shapes import Job, Plan, Problem
from tests.stack import open_folder, running_stack
from worker.engines.base import BranchFinished, BranchRequest, Sampling
from worker.engines.torch.engine import TorchEngine

DEMO_MODEL = Path("worker/demo_model")
MODEL = "slackline-demo"
DEADLINE = timedelta(minutes=10)
TEMPERATURE = 0.8


def main() -> None:
    """Alternates the rounds; prints each and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--branches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-overhead.jsonl"
    )
    args = parser.parse_args()
    lines = (DEMO_MODEL / "arithmetic.jsonl").read_text().splitlines()[: args.problems]
    problems: list[Problem] = [json.loads(line) for line in lines]
    records: list[dict[str, Any]] = []
    with (
        open_folder() as folder,
        running_stack(folder, "torch") as stack,
        stack.client() as client,
        args.records.open("w", encoding="utf-8") as file,
    ):
        engine = TorchEngine.load(DEMO_MODEL / "target", DEMO_MODEL / "draft", model=MODEL)
        try:
            for number in range(-1, args.rounds):  # round -1 warms both up
                served, plan = through_service(client, problems, args.branches)
                raw = through_engine(engine, [problem["prompt"] for problem in problems], plan)
                for record in (served, raw):
                    record["round"] = number
                    file.write(json.dumps(record) + "\n")
                    print(record)
                    if number >= 0:
                        records.append(record)
        finally:
            engine.close()
    rates = {
        way: statistics.median(r["tokens_per_s"] for r in records if r["way"] == way)
        for way in ("service", "engine")
    }
    print(json.dumps({**rates, "ratio": rates["service"] / rates["engine"], **plan}))


def through_service(
    client: Client, problems: list[Problem], num_branches: int
) -> tuple[dict[str, Any], Plan]:
    """Run one job over HTTP; returns its record and the split that it ran with."""
    job = client.submit(
        problems, model=MODEL, deadline=DEADLINE, max_branches=num_branches, temperature=TEMPERATURE
    )
    while job["state"] not in TERMINAL_STATES:
        time.sleep(0.5)
        job = client.job(job["id"])
    assert job["plan"] is not None, job
    results = list(client.results(job["id"], branches=True))
    tokens = sum(
        branch["completion_tokens"] for result in results for branch in result["branches"] or ()
    )
    return record_of("service", tokens, duration_s(job)), job["plan"]


def duration_s(job: Job) -> float:
    """Seconds from submission to the last committed answer."""
    assert job["finished_at"] is not None, job
    finished_at = datetime.fromisoformat(job["finished_at"])
    return (finished_at - datetime.fromisoformat(job["created_at"])).total_seconds()


def through_engine(engine: TorchEngine, prompts: Sequence[str], plan: Plan) -> dict[str, Any]:
    """Decode the same branches with nothing but the engine."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    deadline_at = datetime.now(UTC) + DEADLINE
    requests = [
        BranchRequest(
            branch_id=f"{position}:{branch_index}",
            prompt=prompt,
            branch_index=branch_index,
            num_speculative_tokens=plan["num_speculative_tokens"],
            max_tokens=plan["max_tokens"],
            sampling=Sampling(temperature=TEMPERATURE),
            priority=0,
            deadline_at=deadline_at,
        )
        for position, prompt in enumerate(prompts)
        for branch_index in range(plan["num_branches"])
    ]
    started_at_s = time.perf_counter()
    engine.submit(requests, events)
    tokens = sum(events.get().metrics.completion_tokens for _ in requests)
    return record_of("engine", tokens, time.perf_counter() - started_at_s)


def record_of(way: str, tokens: int, elapsed_s: float) -> dict[str, Any]:
    """One round of one way."""
    return {
        "way": way,
        "completion_tokens": tokens,
        "elapsed_s": round(elapsed_s, 3),
        "tokens_per_s": round(tokens / elapsed_s, 1),
    }


if __name__ == "__main__":
    main()
