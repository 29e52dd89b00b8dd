"""Forecast against outcome on the torch engine: jobs through the whole service."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from api.client import Client, SlacklineError
from scheduler.core.config import SchedulerConfig
from scheduler.core.event_kinds import EventKind
from tests.benchmarks.real_jobs import (
    FAMILY,
    MODEL,
    TEMPERATURE,
    Record,
    fresh_problems,
    outcome,
    pause_until,
    seconds_between,
    wait_for,
)
from tests.benchmarks.real_machine import Others
from tests.stack import open_folder, running_stack

MOST_PROBLEMS = 40
FACTORS = (1.15, 10.0)
"""Deadlines, drawn evenly in their logarithm, in times of the earliest finish quoted at arrival."""
CLASSES = (1.15, 2.0, 4.5, 10.0)
"""Bounds of the classes of deadlines."""
CUT_S = 0.05
BOOTSTRAP_ROUNDS = 2000


def measure(num_jobs: int, gap_s: float, seed: int) -> Iterator[Record]:
    """Start the service, submit the jobs over HTTP, yield one record per job.

    Args:
        gap_s: Mean time between arrivals, which are memoryless.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, MOST_PROBLEMS + 1, num_jobs).tolist()
    low, high = FACTORS
    factors = (low * (high / low) ** rng.random(num_jobs)).tolist()
    arrivals_s = np.concatenate([[0.0], rng.exponential(gap_s, num_jobs - 1)]).cumsum().tolist()
    with (
        open_folder() as folder,
        running_stack(folder, "torch") as stack,
        stack.client() as client,
        Others() as others,
    ):
        warm_up(client)
        records = [
            submit(client, number, sizes[number], factors[number], seed)
            for number in pause_until(arrivals_s)
        ]
        jobs = [record["job"] for record in records if record["is_admitted"]]
        wait_for(client, jobs, 600.0)
        for record in records:
            if record["is_admitted"]:
                record |= outcome(client, client.job(record["job"]))
                kinds = [event["kind"] for event in client.events(record["job"])]
                record["num_plans"] = kinds.count(EventKind.PLAN_STORED)
                record["admission"] = client.explain(record["job"])["admission"]
                start_s = datetime.fromisoformat(record["created_at"]).timestamp()
                record["cores_of_others"] = others.cores(start_s, start_s + record["finish_s"])
            yield record
        log = (folder / "logs" / "worker-torch.log").read_text(encoding="utf-8")
        for line in log.splitlines():
            if "latency.refreshed" in line or "profile.measured" in line:
                print(line)


def warm_up(client: Client) -> None:
    """Run a small job, so that the first measured one does not pay for first calls."""
    problems = fresh_problems(999, 8)
    job = client.submit(problems, model=MODEL, deadline=timedelta(minutes=1), family="warm-up")
    client.wait(job["id"])


def submit(client: Client, number: int, size: int, factor: float, seed: int) -> Record:
    """Ask for a quote, submit the job with a multiple of the earliest finish, note the promise."""
    problems = fresh_problems(1000 * (seed + 1) + number, size)
    quote = client.quote(problems, model=MODEL, family=FAMILY)
    record: Record = {
        "kind": "real_forecast",
        "number": number,
        "num_problems": size,
        "factor": factor,
        "deadline_s": factor * quote["earliest_finish_s"],
    }
    try:
        job = client.submit(
            problems,
            model=MODEL,
            family=FAMILY,
            deadline=timedelta(seconds=record["deadline_s"]),
            temperature=TEMPERATURE,
        )
    except SlacklineError as refusal:
        return record | {"is_admitted": False, "error": refusal.code}
    promised = job["admitted"]
    return record | {
        "is_admitted": True,
        "job": job["id"],
        "created_at": job["created_at"],
        "deadline_s": seconds_between(job["created_at"], job["deadline_at"]),
        "predicted_p50_s": seconds_between(job["created_at"], promised["finish_at"]),
        "predicted_p95_s": seconds_between(job["created_at"], promised["finish_p95_at"]),
        "predicted_accuracy": promised["accuracy"],
        "plan": job["plan"],
        "basis": job["forecast_basis"],
    }


def is_cut(record: Record) -> bool:
    """Whether the promised P95 is the deadline itself, where the worker answers from its votes."""
    last_s = record["deadline_s"] - SchedulerConfig().reserve_s
    return bool(record["predicted_p95_s"] >= last_s - CUT_S)


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Coverage and errors over the admitted jobs."""
    admitted = [record for record in records if record["is_admitted"]]
    free = [record for record in admitted if not is_cut(record)]
    groups = {"all": admitted} | {
        f"{low:g}-{high:g}x": [r for r in admitted if low <= r["factor"] < high]
        for low, high in itertools.pairwise(CLASSES)
    }
    for name, sign in (("plan_lowered", -1), ("plan_kept", 0), ("plan_raised", 1)):
        groups[name] = [record for record in admitted if np.sign(branches_added(record)) == sign]
    undisturbed = [record for record in admitted if not num_overtaking(admitted, record)]
    return {
        "num_jobs": len(records),
        "num_admitted": len(admitted),
        "num_cut": len(admitted) - len(free),
        "attainment": mean([r["met_deadline"] for r in admitted]),
        "degraded_problems": ratio(admitted, "num_degraded"),
        "coverage_p95": mean([r["finish_s"] <= r["predicted_p95_s"] for r in admitted]),
        "coverage_p95_free": mean([r["finish_s"] <= r["predicted_p95_s"] for r in free]),
        "coverage_p95_not_overtaken": mean(
            [r["finish_s"] <= r["predicted_p95_s"] for r in undisturbed]
        ),
        "num_overtaken": len(admitted) - len(undisturbed),
        "coverage_p50": mean([r["finish_s"] <= r["predicted_p50_s"] for r in admitted]),
        "median_relative_error_p50": median([abs(error_of(r)) for r in admitted]),
        "median_signed_error_p50": median([error_of(r) for r in admitted]),
        "expected_accuracy": float(
            np.average(
                [r["predicted_accuracy"] for r in admitted],
                weights=[r["num_problems"] for r in admitted],
            )
        ),
        "accuracy": ratio(admitted, "num_right"),
        "accuracy_error_points": {name: accuracy_error(group) for name, group in groups.items()},
        "jobs_live_at_arrival": mean([num_live(admitted, record) for record in admitted]),
        "cores_of_others": mean([record["cores_of_others"] for record in admitted]),
    }


def error_of(record: Record) -> float:
    """Relative error of the median finish; positive when the job took longer."""
    return float((record["finish_s"] - record["predicted_p50_s"]) / record["predicted_p50_s"])


def num_live(records: Sequence[Record], record: Record) -> int:
    """Other jobs that were live when this one arrived."""
    return sum(
        0 < seconds_between(other["created_at"], record["created_at"]) < other["finish_s"]
        for other in records
    )


def num_overtaking(records: Sequence[Record], record: Record) -> int:
    """Jobs that arrived while this one was live and were due before it."""
    later_s = [seconds_between(record["created_at"], other["created_at"]) for other in records]
    return sum(
        0 < at_s < record["finish_s"] and at_s + other["deadline_s"] < record["deadline_s"]
        for at_s, other in zip(later_s, records, strict=True)
    )


def branches_added(record: Record) -> int:
    """Branches by which the last plan is wider than the admitted one."""
    return int(record["plan_at_end"]["num_branches"] - record["plan"]["num_branches"])


def accuracy_error(records: Sequence[Record]) -> list[float] | None:
    """Expected minus realized accuracy in points over problems, with its 95% interval over jobs."""
    if not records:
        return None
    sizes = np.array([record["num_problems"] for record in records], float)
    right = np.array([record["num_right"] for record in records], float)
    expected = np.array([record["predicted_accuracy"] for record in records]) * sizes
    drawn = np.random.default_rng(0).integers(0, len(records), (BOOTSTRAP_ROUNDS, len(records)))
    means = (expected - right)[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    value = (expected - right).sum() / sizes.sum()
    return [round(100 * float(v), 2) for v in (value, *np.quantile(means, (0.025, 0.975)))]


def ratio(records: Sequence[Record], key: str) -> float:
    """Sum of a count over the problems."""
    return float(sum(r[key] for r in records) / max(sum(r["num_problems"] for r in records), 1))


def mean(values: Sequence[float]) -> float | None:
    """Mean, None of nothing."""
    return float(np.mean(values)) if values else None


def median(values: Sequence[float]) -> float | None:
    """Median, None of nothing."""
    return float(np.median(values)) if values else None


def line_of(record: Record) -> str:
    """One job in words."""
    size, deadline_s = record["num_problems"], record["deadline_s"]
    start = f"{record['number']:3d} {size:3d} problems in {deadline_s:6.1f} s"
    if not record["is_admitted"]:
        return f"{start}  refused: {record['error']}"
    plan = record["plan"]
    return (
        f"{start}  {plan['num_branches']:2d} x draft {plan['num_speculative_tokens']}"
        f"  P50 {record['predicted_p50_s']:6.1f}  P95 {record['predicted_p95_s']:6.1f}"
        f"{'*' if is_cut(record) else ' '} finish {record['finish_s']:6.1f}"
        f"  accuracy {record['predicted_accuracy']:.3f}"
        f" {record['num_right'] / record['num_problems']:.3f}"
        f"  degraded {record['num_degraded']:2d}  plans {record['num_plans']:2d}"
        f"  others {record['cores_of_others']:.2f} cores"
    )
