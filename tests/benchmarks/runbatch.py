"""Does a deadline-aware service answer more problems right by a deadline than `vllm run-batch`?

Question: the share of problems answered right by a deadline, and the tokens spent, for one problem
set through Slackline on vLLM and through `vllm run-batch` with fixed branches and majority voting,
on the same model and the same machine, in turn.

Regimes: the demo model on a CPU, the shipped arithmetic problems, temperature 0.8. `vllm run-batch`
runs once per width, without drafts (with them, vLLM 0.32.0 samples wrongly on a CPU), with the same
rows, precision and cache as the worker. Its time is that from reading the file to writing the last
answer, so that loading the model does not count against it. It writes everything at its end: by an
earlier deadline nothing is answered. Deadlines are fractions and multiples of those times; at each,
`run-batch` is given the width that is best in hindsight. Slackline knows nothing but the deadline,
and that nobody comes later (`row_price` 0): otherwise it would keep rows for more such jobs, as
those of this benchmark come one after another.

Falsified when: at a deadline that the service admits it answers fewer problems right in time.

    python -m tests.benchmarks.runbatch [--problems N] [--widths 1,4,8] [--deadlines 0.8,1.1]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.client import Client
from api.client.errors import SlacklineError
from api.client.shapes import Problem
from tests.benchmarks.overhead_vllm import MAX_NUM_SEQS
from tests.benchmarks.served import (
    DEMO_MODEL,
    MODEL,
    START_TIMEOUT_S,
    TEMPERATURE,
    duration_s,
    first_problems,
    run_job,
    tokens_of,
)
from tests.stack import open_folder, running_stack
from worker.answers import extract_answer

MAX_TOKENS = 512
"""Of one branch of run-batch; the longest completions of the model are shorter."""

PROGRAM = """
import asyncio
from vllm.entrypoints.launchers.run_batch import main, parse_args
asyncio.run(main(parse_args()))
"""
"""The build for CPU has no working `vllm` command: it looks for a package of that name."""

LONELY = {"SLACKLINE_SCHEDULER__ROW_PRICE": "0"}

STARTED = "Reading batch from"
"""What run-batch logs when the model is loaded."""


def main() -> None:
    """Runs both; prints a row per deadline and, last, one JSON line."""
    args = parse_arguments()
    problems = first_problems(args.problems)
    batches = []
    for width in args.widths:
        batches.append(run_batch(problems, width))
        print(batches[-1], flush=True)
    deadlines = sorted(
        {round(factor * batch["elapsed_s"], 1) for batch in batches for factor in args.deadlines}
    )
    rows = []
    with (
        open_folder() as folder,
        running_stack(folder, "vllm", env=LONELY, timeout_s=START_TIMEOUT_S) as stack,
        stack.client() as client,
    ):
        run_job(client, problems[:8], timedelta(minutes=2), 2)  # warms it up
        for deadline_s in deadlines:
            in_time = [batch for batch in batches if batch["elapsed_s"] <= deadline_s]
            best = max(in_time, key=lambda batch: batch["num_right"], default=None)
            row = {
                "deadline_s": deadline_s,
                "slackline": by_deadline(client, problems, deadline_s),
                "run_batch": best
                and {
                    "accuracy": best["num_right"] / len(problems),
                    "tokens": best["tokens"],
                    "finish_s": best["elapsed_s"],
                    "num_branches": best["num_branches"],
                },
            }
            print(row, flush=True)
            rows.append(row)
    print(json.dumps({"benchmark": "runbatch", "num_problems": len(problems), "rows": rows}))


def by_deadline(client: Client, problems: list[Problem], deadline_s: float) -> dict[str, Any]:
    """What the service makes of the problems by a deadline, or why it refuses to."""
    try:
        job, results = run_job(client, problems, timedelta(seconds=deadline_s))
    except SlacklineError as error:
        if error.code != "deadline_infeasible":
            raise
        return {"refused": str(error)}
    return {
        "accuracy": sum(bool(result["is_correct"]) for result in results) / len(problems),
        "tokens": tokens_of(results),
        "finish_s": round(duration_s(job), 1),
        "state": job["state"],
        "plan": job["plan"],
    }


def run_batch(problems: Sequence[Problem], num_branches: int) -> dict[str, Any]:
    """Answers by majority over a fixed number of branches, with `vllm run-batch`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (
            {
                "custom_id": problem["id"],
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": MODEL,
                    "messages": [{"role": "user", "content": problem["prompt"]}],
                    "n": num_branches,
                    "temperature": TEMPERATURE,
                    "max_tokens": MAX_TOKENS,
                },
            }
            for problem in problems
        )
        (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "template.jinja").write_text("{{ messages[0]['content'] }}")
        elapsed_s = time_run_batch(folder)
        outputs = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    bodies = {output["custom_id"]: output["response"]["body"] for output in outputs}
    return {
        "num_branches": num_branches,
        "elapsed_s": round(elapsed_s, 1),
        "tokens": sum(body["usage"]["completion_tokens"] for body in bodies.values()),
        "num_right": sum(
            majority(bodies[problem["id"]]) == problem["reference_answer"] for problem in problems
        ),
    }


def time_run_batch(folder: Path) -> float:
    """Seconds from the moment that the model is loaded to the last answer on disk."""
    command = [
        *(sys.executable, "-c", PROGRAM),
        *("-i", folder / "in.jsonl", "-o", folder / "out.jsonl"),
        *("--model", DEMO_MODEL / "target", "--served-model-name", MODEL, "--dtype", "float32"),
        *("--chat-template", folder / "template.jinja", "--enforce-eager"),
        *("--max-num-seqs", MAX_NUM_SEQS, "--max-num-batched-tokens", 2048),
        *("--block-size", 32, "--kv-cache-memory-bytes", 1 << 30),
    ]
    started_at_s = None
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_NO_USAGE_STATS": "1"}
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if STARTED in line and started_at_s is None:
                started_at_s = time.time()
    assert process.returncode == 0, "".join(lines[-40:])
    assert started_at_s is not None, f"it never logged '{STARTED}'"
    return (folder / "out.jsonl").stat().st_mtime - started_at_s


def majority(body: dict[str, Any]) -> str | None:
    """The answer that most branches give; ties to the first. All answers are integers here."""
    answers = (extract_answer(choice["message"]["content"]) for choice in body["choices"])
    votes = Counter(answer for answer in answers if answer is not None)
    return max(votes, key=lambda answer: votes[answer]) if votes else None


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument(
        "--widths", type=lambda text: tuple(map(int, text.split(","))), default=(1, 4, 8)
    )
    parser.add_argument(
        "--deadlines",
        type=lambda text: tuple(map(float, text.split(","))),
        default=(0.8, 1.1),
        help="as multiples of the times of run-batch",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
