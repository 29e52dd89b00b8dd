"""What does it cost to derive what a tenant has queued, rather than to keep a counter?

Question: time of `queued_jobs`, which a submission of a tenant with a quota asks for, beside that
of `read_snapshot`, which every submission asks for, over live jobs of 100 open problems each.

Regimes: *own*, in which all jobs are the tenant's, and *other*, in which none is. Postgres runs
with its defaults on the same machine. What would speak for a counter: a ratio far above 1.

    python -m tests.benchmarks.quota --jobs 1000
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from db import migrate
from db.keys import LOCAL_TENANT
from db.quotas import queued_jobs
from db.session import SessionFactory, connect, session_factory, transaction
from db.snapshot import read_snapshot
from tests.benchmarks.tick import PROBLEMS_PER_JOB, store_jobs
from tests.servers import running_postgres


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    with running_postgres() as url:
        migrate.upgrade(url)
        print(json.dumps(bench(url, args.jobs, args.repeats)))


def bench(url: str, num_jobs: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of each query, and ratios."""
    sessions = session_factory(connect(url))
    now = datetime.now(UTC)
    store_jobs(sessions, num_jobs, now)
    queries: dict[str, Callable[[Session], object]] = {
        "snapshot": lambda session: read_snapshot(session, now),
        "own": lambda session: queued_jobs(session, LOCAL_TENANT),
        "other": lambda session: queued_jobs(session, "ten_other"),
    }
    times: dict[str, list[float]] = {name: [] for name in queries}
    for _ in range(repeats):
        for name, query in queries.items():
            times[name].append(_timed(sessions, query))
    median = {name: statistics.median(each) for name, each in times.items()}
    return {
        "jobs": num_jobs,
        "open_problems": num_jobs * PROBLEMS_PER_JOB,
        "load_average": os.getloadavg()[0],
        "median_ms": {name: round(1e3 * value, 2) for name, value in median.items()},
        "own_over_snapshot": round(median["own"] / median["snapshot"], 3),
        "other_over_snapshot": round(median["other"] / median["snapshot"], 4),
    }


def _timed(sessions: SessionFactory, query: Callable[[Session], object]) -> float:
    with transaction(sessions) as session:
        started = time.perf_counter()
        query(session)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
