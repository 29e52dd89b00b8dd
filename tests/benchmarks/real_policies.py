"""Policies on the torch engine: the same jobs at the same moments under each of them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from api.client import SlacklineError
from api.schemas.submission import SetOptions
from infra.demo_engines import DEMO_MODEL_DIR
from scheduler.core.config import SchedulerConfig
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from scheduler.core.snapshot import Snapshot
from tests.benchmarks.load import FIXED_BRANCHES
from tests.benchmarks.load_summary import summarize
from tests.benchmarks.load_world import World, fully_busy
from tests.benchmarks.policies.fixed import earliest_deadline_first, fifo
from tests.benchmarks.real_jobs import (
    FAMILY,
    MODEL,
    TEMPERATURE,
    Record,
    fresh_problems,
    outcome,
    pause_until,
    wait_for,
)
from tests.benchmarks.real_machine import Others
from tests.benchmarks.real_service import Service, running_service, wait_idle
from worker.profiles import read_recorded_problems

LOADS = (0.4, 0.8, 1.2)
WARM_UP_PROBLEMS = 64
SETTLING_S = 3.0
MEAN_PROBLEMS = 25.5
"""Of a job of `World.jobs`."""
MAX_BRANCHES = 16
GRID_BRANCHES = (1, 2, 4, 8, 16)
GRID_DRAFTS = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Comparison:
    """The jobs of a load and the policies that they are run under."""

    load: float
    jobs: Sequence[SimulatedJob]
    policies: dict[str, Policy]


def measure(loads: Sequence[float], span_s: float, seed: int) -> Iterator[Record]:
    """Yield one record per job, load and policy.

    Args:
        span_s: Time over which the jobs of a run arrive, on average.
    """
    with running_service() as service, Others() as others:
        with service.scheduling(Production()):
            warm_up(service)
        wait_idle(service)
        world = world_of(service.snapshot(), seed)
        print(
            f"capacity {world.capacity:.2f} problems/s, median branch {world.branch_s:.2f} s busy"
        )
        for load in loads:
            compared = comparison(world, load, span_s)
            for label, policy in compared.policies.items():
                yield from run(service, others, compared, label, policy, seed)


def warm_up(service: Service) -> None:
    """One job, so that the engine, the live latency profile and what was learned are warm."""
    job = service.client.submit(
        fresh_problems(998, WARM_UP_PROBLEMS),
        model=MODEL,
        family=FAMILY,
        deadline=timedelta(minutes=1),
        temperature=TEMPERATURE,
    )
    service.client.wait(job["id"])


def world_of(snapshot: Snapshot, seed: int) -> World:
    """The engine as the scheduler sees it, with 100% load and the times of `load.py`."""
    (worker,) = snapshot.workers
    recorded = read_recorded_problems(DEMO_MODEL_DIR / "recordings.jsonl.gz")
    prompts = [len(problem["prompt"]) for problem in fresh_problems(997, WARM_UP_PROBLEMS)]
    prompt_tokens = float(np.mean(prompts)) / worker.spec.chars_per_token
    capacity, branch_s = fully_busy(worker.spec, worker.latency, recorded, prompt_tokens)
    gaps = np.random.default_rng((seed, 3)).exponential(1.0, 10_000)
    engine = SimulatedWorker(
        worker.name, worker.spec, worker.latency, worker.latency, worker.answers
    )
    return World((engine,), tuple(recorded), gaps.cumsum(), capacity, branch_s, 0, seed)


def comparison(world: World, load: float, span_s: float) -> Comparison:
    """Jobs that arrive within about `span_s`, and the policies for them.

    The fixed split is the one that a simulation of these very jobs likes best, replaying the
    shipped recordings. Nothing else here is simulated.
    """
    num_jobs = max(round(load * world.capacity * span_s / MEAN_PROBLEMS), 2)
    jobs = [
        replace(job, max_branches=MAX_BRANCHES)
        for job in replace(world, num_jobs=num_jobs).jobs(load)
    ]
    grid = [earliest_deadline_first(b, g) for b in GRID_BRANCHES for g in GRID_DRAFTS]
    config = SchedulerConfig()
    accuracy = {
        policy.name: summarize(simulate(jobs, world.workers, policy, config))["accuracy"]
        for policy in grid
    }
    best = max(grid, key=lambda policy: accuracy[policy.name])
    print(f"load {load:.0%}: {num_jobs} jobs, best-looking fixed split {best.name}", flush=True)
    policies: dict[str, Policy] = {
        "production": Production(),
        "fifo": fifo(FIXED_BRANCHES),
        "fixed_edf": best,
    }
    return Comparison(load, jobs, policies)


def run(
    service: Service, others: Others, compared: Comparison, label: str, policy: Policy, seed: int
) -> Iterator[Record]:
    """Submit the jobs when they are due and yield what came of them."""
    records: list[Record] = []
    with service.scheduling(policy):
        # A scheduler that starts makes tables first, and no deadline should pay for that.
        time.sleep(SETTLING_S)
        started_at, started_s = datetime.now(UTC), time.time()
        for number in pause_until([job.arrival_s for job in compared.jobs]):
            job = compared.jobs[number]
            record: Record = {
                "kind": "real_policies",
                "load": compared.load,
                "policy": label,
                "name": policy.name,
                "number": number,
                "num_problems": len(job.problems),
                "time_s": job.deadline_s - job.arrival_s,
            }
            deadline_at = started_at + timedelta(seconds=job.deadline_s)
            record["job"] = submit(service, policy, len(job.problems), deadline_at, seed, number)
            records.append(record)
        wait_for(service.client, [r["job"] for r in records if r["job"]], 120.0)
        wait_idle(service)
    ended_s = time.time()
    for record in records:
        record["run_s"] = ended_s - started_s
        record["cores_of_others"] = others.cores(started_s, ended_s)
        record["is_admitted"] = record["job"] is not None
        record["is_promised"] = False
        if record["is_admitted"]:
            job_now = service.client.job(record["job"])
            record |= outcome(service.client, job_now) | {"is_promised": job_now["promised"]}
        yield record


def submit(
    service: Service,
    policy: Policy,
    size: int,
    deadline_at: datetime,
    seed: int,
    number: int,
) -> str | None:
    """Submit to production over HTTP, as a best effort if need be, to others through the store.

    Returns:
        None when not even a best effort is taken, as it would slow promised jobs too much.
    """
    problems = fresh_problems(100_000 * (seed + 1) + number, size)
    if not isinstance(policy, Production):
        options = SetOptions.model_validate(
            {"model": MODEL, "family": FAMILY, "temperature": TEMPERATURE}
        )
        return service.insert(policy, options, problems, deadline_at)
    try:
        job = service.client.submit(
            problems,
            model=MODEL,
            family=FAMILY,
            deadline=deadline_at,
            temperature=TEMPERATURE,
            best_effort=True,
        )
    except SlacklineError as refusal:
        if refusal.code != "deadline_infeasible":
            raise
        return None
    return job["id"]


def summarize_runs(records: Sequence[Record]) -> dict[str, Any]:
    """Figures by load and policy; a miss or a refusal counts as wrong."""
    keys = dict.fromkeys((record["load"], record["policy"]) for record in records)
    summary: dict[str, Any] = {}
    for load, label in keys:
        mine = [r for r in records if (r["load"], r["policy"]) == (load, label)]
        summary.setdefault(f"{load:g}", {})[label] = figures(mine)
    return summary


def gains(records: Sequence[Record]) -> dict[str, Any]:
    """By how much production answers more of all problems right than each other, in points.

    With the standard error over jobs, which are the same under all policies.
    """
    right: dict[tuple[float, str], list[int]] = {}
    for record in records:
        mine = right.setdefault((record["load"], record["policy"]), [])
        mine.append(record["num_right"] if record["is_admitted"] else 0)
    sizes = {
        load: sum(r["num_problems"] for r in records if (r["load"], r["policy"]) == (load, label))
        for load, label in right
    }
    summary: dict[str, Any] = {}
    for (load, label), other in right.items():
        if label != "production":
            more = 100 * (np.array(right[load, "production"]) - np.array(other)) / sizes[load]
            error = float(np.std(more) * np.sqrt(len(more)))
            gain = [round(float(more.sum()), 2), round(error, 2)]
            summary.setdefault(f"{load:g}", {})[f"over_{label}"] = gain
    return summary


def figures(records: Sequence[Record]) -> dict[str, Any]:
    """The figures of one run."""
    admitted = [record for record in records if record["is_admitted"]]
    promised = [record for record in admitted if record["is_promised"]]
    total = sum(record["num_problems"] for record in records)
    right = sum(record["num_right"] for record in admitted)
    tokens = sum(record["tokens"] for record in admitted)
    voted = sum(record["num_voted"] for record in admitted)
    shares = [r["num_right"] / r["num_problems"] if r["is_admitted"] else 0.0 for r in records]
    sizes = np.array([record["num_problems"] for record in records], float)
    spread = (np.array(shares) - right / total) * sizes
    return {
        "name": records[0]["name"],
        "num_jobs": len(records),
        "num_problems": total,
        "accuracy": right / total,
        "standard_error": float(np.sqrt((spread**2).sum()) / total),
        "unpromised_problems": 1 - sum(r["num_problems"] for r in promised) / total,
        "attainment_of_promised": float(np.mean([r["met_deadline"] for r in promised] or [0.0])),
        "voted_in_time": voted / total,
        "accuracy_of_voted": right / max(voted, 1),
        "degraded_problems": sum(record["num_degraded"] for record in admitted) / total,
        "tokens_per_problem": tokens / total,
        "tokens_per_right": tokens / max(right, 1),
        "tokens_per_s": tokens / records[0]["run_s"],
        "run_s": records[0]["run_s"],
        "cores_of_others": records[0]["cores_of_others"],
    }


def line_of(load: str, label: str, row: dict[str, Any]) -> str:
    """One run in words."""
    return (
        f"{float(load):4.0%} {label:10} {row['name']:10} right in time {row['accuracy']:.3f}"
        f" (+-{row['standard_error']:.3f}), without a promise {row['unpromised_problems']:.3f},"
        f" attainment of promised {row['attainment_of_promised']:.3f},"
        f" voted in time {row['voted_in_time']:.3f},"
        f" tokens per problem {row['tokens_per_problem']:.0f},"
        f" {row['tokens_per_s']:.0f} tokens/s, {row['run_s']:.0f} s,"
        f" others used {row['cores_of_others']:.2f} cores"
    )
