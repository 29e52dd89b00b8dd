"""How long does one tick's `decide` take, and how does it grow with the number of live jobs?

Question: CPU time of `decide` over synthetic worlds of 100 to 10,000 live jobs (100 problems each
on average) and a tenth as many workers, at most 1,000.

Regimes: three ticks on each world. *first*: a new process, nothing remembered. *full*: every job
has changed since the tick before and every one is planned anew; forecasts of alike jobs are
remembered. *incremental*: a tick half a second later in which one job in a hundred has handed out
problems and every worker has sent a heartbeat; stored plans are reviewed in turn, as shipped
(`scheduler/core/placing.py`), in full ticks all at once. Workers have latencies that differ by
noise, tenants differ in share, batches fill the workers. Snapshots are made outside of the clock.

Falsified when: full takes over 250 ms or incremental over 20 ms at 10,000 jobs, or the time of
either grows faster than n log n: the slope of log(time) over log(n log n) is above 1.

    python -m tests.benchmarks.decide --records records.jsonl
    python -m tests.benchmarks.decide --plot records.jsonl --figure docs/figures/decide.png
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from scheduler.core import columns
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Decisions
from scheduler.core.snapshot import BatchView, JobView, Snapshot, WorkerView
from scheduler.core.states import BatchState, JobState
from tests.scheduler.core.worlds import ANSWERS, LATENCY, batch, job, worker

SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TICK = timedelta(seconds=0.5)
CONFIG = SchedulerConfig()
LIMITS_S = {"full": 0.250, "incremental": 0.020}


def main() -> None:
    """Measures or plots; prints, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--records", type=Path, default=Path(tempfile.gettempdir()) / "slackline-decide.jsonl"
    )
    parser.add_argument("--plot", type=Path, help="draw these records instead of measuring")
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/decide.png"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument(
        "--load", type=float, default=0.7, help="work over time until the deadlines"
    )
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    if args.plot:
        records = [json.loads(line) for line in args.plot.read_text().splitlines()]
        plot(records, args.figure)
    else:
        records = []
        with args.records.open("w", encoding="utf-8") as file:
            for size in args.sizes:
                for record in measure(size, args.load, args.repeats):
                    file.write(json.dumps(record) + "\n")
                    records.append(record)
                print(size, {k: round(v, 4) for k, v in medians(records, size).items()})
    print(json.dumps(summary(records)))


def measure(size: int, load: float, repeats: int) -> list[dict[str, Any]]:
    """Times ticks on one world."""
    rng = np.random.default_rng(size)
    columns.forget()
    world = make_world(size, load, rng)
    records = []

    everything = replace(CONFIG, num_reviewed=size)

    def record(regime: str, world: Snapshot) -> Decisions:
        config = everything if regime == "full" else CONFIG
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        decisions = decide(world, config)
        records.append(
            {
                "jobs": size,
                "workers": len(world.workers),
                "batches": len(world.batches),
                "problems": sum(job.num_pending + job.num_in_flight for job in world.jobs),
                "load": load,
                "regime": regime,
                "cpu_s": time.process_time() - cpu_s,
                "wall_s": time.perf_counter() - wall_s,
                "num_plans": len(decisions.plans),
                "num_new_batches": len(decisions.new_batches),
            }
        )
        return decisions

    world = applied(world, record("first", world))
    for _ in range(10):  # until the workers are full and plans have settled
        world = beat(world, rng)
        world = applied(world, decide(world, CONFIG))
    for _ in range(4):  # so that forecasts of alike jobs are remembered
        decide(beat(world, rng, share=1.0), everything)
    for _ in range(repeats):
        changed = beat(world, rng, share=1.0)
        record("full", changed)
    decide(world, CONFIG)
    for _ in range(repeats):
        world = beat(world, rng, share=0.01)
        world = applied(world, record("incremental", world))
    return records


def make_world(size: int, load: float, rng: np.random.Generator) -> Snapshot:
    """Jobs of 1 to 400 problems, a tenth as many workers, nothing running yet."""
    num_workers = max(1, size // 10)
    counts = np.minimum(1 + rng.geometric(1 / 100, size), 400)
    prompts = rng.lognormal(5.0, 0.5, size)
    # A single branch of the synthetic model holds a row for about 3 s.
    horizon_s = 3.0 * counts.sum() / (64 * num_workers) / load
    jobs = tuple(
        job(
            f"job_{index:05d}",
            num_pending=int(counts[index]),
            max_branches=int(rng.choice([4, 16, 64])),
            weight=float(rng.choice([0.5, 1.0, 2.0])),
        )
        for index in range(size)
    )
    jobs = tuple(
        replace(
            one,
            created_at=START,
            deadline_at=START
            + timedelta(seconds=float(10.0 + rng.uniform(0.05, 1.0) * 8 * horizon_s)),
            mean_prompt_tokens=float(prompts[index]),
            tenant_id=f"tenant_{index % 7}",
            tenant_share=1.0 / 7,
            num_problems=one.num_pending,
        )
        for index, one in enumerate(jobs)
    )
    workers = tuple(
        replace(
            worker(f"worker_{index:04d}", rows=64),
            latency=replace(LATENCY, base_s=LATENCY.base_s * float(rng.normal(1.0, 0.02))),
            answers=ANSWERS,
            heartbeat_at=START,
        )
        for index in range(num_workers)
    )
    return Snapshot(START, jobs, (), workers)


def applied(world: Snapshot, decisions: Decisions) -> Snapshot:
    """The world with plans stored and batches created, as the shell does."""
    plans = {planned.job_id: planned for planned in decisions.plans}
    given: dict[str, int] = {}
    batches = list(world.batches)
    deadlines = {job.id: job.deadline_at for job in world.jobs}
    for new in decisions.new_batches:
        given[new.job_id] = given.get(new.job_id, 0) + new.num_problems
        made: BatchView = batch(
            len(batches),
            job_id=new.job_id,
            worker_name=new.worker_name,
            state=BatchState.CLAIMED,
            plan=new.plan,
            num_open_problems=new.num_problems,
            num_open_branches=new.num_problems * new.plan.num_branches,
        )
        batches.append(
            replace(
                made,
                created_at=world.now,
                deadline_at=deadlines[new.job_id],
                lease_expires_at=world.now + timedelta(hours=1),
            )
        )

    def updated(job: JobView) -> JobView:
        planned, count = plans.get(job.id), given.get(job.id, 0)
        if planned is None and not count:
            return job
        if planned is not None:
            finish_at = world.now + timedelta(seconds=planned.forecast.finish_p95_s)
            job = replace(job, plan=planned.plan, predicted_at=finish_at)
            job = replace(job, promised_at=job.promised_at or finish_at)
        return replace(
            job,
            state=JobState.RUNNING,
            num_pending=job.num_pending - count,
            num_in_flight=job.num_in_flight + count,
        )

    return replace(world, jobs=tuple(map(updated, world.jobs)), batches=tuple(batches))


def beat(world: Snapshot, rng: np.random.Generator, share: float = 0.0) -> Snapshot:
    """Half a second later: heartbeats, and a share of the jobs answered something."""
    now = world.now + TICK
    changed = set(np.flatnonzero(rng.random(len(world.jobs)) < share).tolist())

    def answered(index: int, job: JobView) -> JobView:
        if index not in changed:
            return job
        count = int(rng.integers(0, min(3, job.num_pending) + 1))
        return replace(job, num_pending=max(1, job.num_pending - count))

    def alive(worker: WorkerView) -> WorkerView:
        return replace(worker, heartbeat_at=now)

    return replace(
        world,
        now=now,
        jobs=tuple(answered(index, job) for index, job in enumerate(world.jobs)),
        workers=tuple(map(alive, world.workers)),
    )


def medians(records: list[dict[str, Any]], size: int) -> dict[str, float]:
    """Median CPU seconds by regime."""
    regimes = ("first", "full", "incremental")
    return {
        regime: statistics.median(
            r["cpu_s"] for r in records if (r["jobs"], r["regime"]) == (size, regime)
        )
        for regime in regimes
    }


def slope(records: list[dict[str, Any]], regime: str) -> float:
    """Exponent p of time ~ (n log n)^p over sizes of 500 and more, where overhead is small."""
    sizes = sorted({r["jobs"] for r in records if r["jobs"] >= 500})
    if len(sizes) < 2:
        return float("nan")
    times = [medians(records, size)[regime] for size in sizes]
    work = np.array(sizes) * np.log(sizes)
    return float(np.polyfit(np.log(work), np.log(times), 1)[0])


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians at the largest size, the limits, and the growth."""
    largest = max(r["jobs"] for r in records)
    found = medians(records, largest)
    return {
        "jobs": largest,
        "problems": next(r["problems"] for r in records if r["jobs"] == largest),
        "workers": next(r["workers"] for r in records if r["jobs"] == largest),
        **{f"{regime}_cpu_s": round(value, 4) for regime, value in found.items()},
        **{f"{regime}_within": found[regime] <= limit for regime, limit in LIMITS_S.items()},
        **{f"{regime}_growth": round(slope(records, regime), 2) for regime in LIMITS_S},
    }


def plot(records: list[dict[str, Any]], figure: Path) -> None:
    """CPU time over jobs, with n log n through the largest world."""
    sizes = sorted({r["jobs"] for r in records})
    _, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    styles: dict[str, Callable[[], dict[str, Any]]] = {
        "first": lambda: {"color": "tab:gray", "marker": "s"},
        "full": lambda: {"color": "tab:blue", "marker": "o"},
        "incremental": lambda: {"color": "tab:orange", "marker": "^"},
    }
    for regime, style in styles.items():
        times = [1e3 * medians(records, size)[regime] for size in sizes]
        axes.plot(sizes, times, label=regime, **style())
        if regime in LIMITS_S:
            work = np.array(sizes) * np.log(sizes)
            axes.plot(sizes, times[-1] * work / work[-1], ":", color=style()["color"], lw=1)
            axes.axhline(1e3 * LIMITS_S[regime], color=style()["color"], lw=0.6, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="live jobs", ylabel="CPU time of one decide, ms")
    axes.set_title("One tick (dashed: limit, dotted: n log n)", fontsize=10)
    axes.legend()
    axes.grid(which="both", alpha=0.2)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, dpi=150)


if __name__ == "__main__":
    main()
