"""Jobs of fresh arithmetic problems for the real engine, and what came of them."""

import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from api.client import Client
from api.client.shapes import TERMINAL_STATES, Job, Problem
from worker.demo_model.problems import (
    TRAINING_SEED,
    held_out_problems,
    held_out_prompts,
    shipped_rows,
)

MODEL = "slackline-demo"
FAMILY = "arithmetic"
TEMPERATURE = 0.8
"""At which the shipped recordings were made."""
FIRST_SEED = 20_270_101
"""Problems of a job are drawn from this seed plus a number; training and recordings used others."""
POLL_S = 0.5

Record = dict[str, Any]


def fresh_problems(seed: int, num_problems: int) -> list[Problem]:
    """Problems that were neither trained on nor recorded, in the form of a submission.

    Their chain lengths are dealt in turn, and shuffled so that a small job may be easy or hard.
    """
    assert FIRST_SEED + seed > TRAINING_SEED
    known = held_out_prompts()
    drawn = held_out_problems(FIRST_SEED + seed, num_problems + len(range(2, 11)))
    fresh = [problem for problem in drawn if problem.prompt not in known]
    order = np.random.default_rng(seed).permutation(len(fresh))[:num_problems]
    rows = shipped_rows([fresh[i] for i in order])
    return [
        Problem(id=r["id"], prompt=r["prompt"], reference_answer=r["reference_answer"])
        for r in rows
    ]


def seconds_between(start: str, end: str) -> float:
    """Seconds from one RFC 3339 instant to another."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def wait_for(client: Client, job_ids: Sequence[str], timeout_s: float) -> None:
    """Wait until all jobs have ended.

    Raises:
        TimeoutError: One has not.
    """
    give_up_at = time.monotonic() + timeout_s
    for job_id in job_ids:
        while client.job(job_id)["state"] not in TERMINAL_STATES:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{job_id} has not ended")
            time.sleep(POLL_S)


def outcome(client: Client, job: Job) -> Record:
    """What is known of a job at its end; a problem that was answered late counts as wrong."""
    results = list(client.results(job["id"], branches=True))
    branches = list(itertools.chain.from_iterable(r["branches"] or () for r in results))
    deadline_at = datetime.fromisoformat(job["deadline_at"])
    in_time = [
        result
        for result in results
        if result["state"] == "answered"
        and result["finished_at"] is not None
        and datetime.fromisoformat(result["finished_at"]) <= deadline_at
    ]
    decoded = [b for b in branches if b["tpot_s"] is not None]
    return {
        "state": job["state"],
        "met_deadline": bool(job["met_deadline"]),
        "finish_s": seconds_between(job["created_at"], job["finished_at"] or job["deadline_at"]),
        "num_voted": sum(result["answer"] is not None for result in in_time),
        "num_right": sum(bool(result["is_correct"]) for result in in_time),
        "num_degraded": sum(result["degraded"] for result in results),
        "num_branches": len(branches),
        "num_finished_branches": sum(b["finish_reason"] in ("stop", "length") for b in branches),
        "tokens": sum(b["completion_tokens"] for b in branches),
        "tpot_s": float(np.mean([b["tpot_s"] for b in decoded])) if decoded else None,
        "queue_time_s": float(np.mean([b["queue_time_s"] for b in branches])) if branches else None,
        "plan_at_end": job["plan"],
    }


def pause_until(instants_s: Sequence[float]) -> Iterator[int]:
    """Yields 0, 1, ... when that many seconds have passed since the first was asked for."""
    started_at = time.monotonic()
    for number, instant_s in enumerate(instants_s):
        time.sleep(max(0.0, started_at + instant_s - time.monotonic()))
        yield number
