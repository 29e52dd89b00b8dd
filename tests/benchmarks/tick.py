"""How long does a whole tick take with Postgres: reading, deciding and writing?

Question: time and CPU time of this process for `read_snapshot`, `decide` and all writes of one
tick of the production scheduler, over live jobs of 100 problems each and a tenth as many workers.

Regimes: *first*, in which every job gets its plan and every worker its batches, and *next*, half a
second later each, in which every worker has sent a heartbeat and nothing else has changed. Postgres
runs with its defaults on the same machine; messages to workers are not sent. No limit is set:
the number says what a tick costs beside `decide`, which `tests.benchmarks.decide` measures.

    python -m tests.benchmarks.tick --jobs 10000
"""

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import text, update

from db import migrate
from db.models import Worker
from db.session import SessionFactory, connect, session_factory, transaction
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Decisions
from scheduler.core.snapshot import Snapshot
from scheduler.tick import Scheduler
from tests.factories import stored_job, stored_worker
from tests.servers import running_postgres

PROBLEMS_PER_JOB = 100

_JOBS = text("""
INSERT INTO jobs
SELECT (
    jsonb_populate_record(
        job,
        jsonb_build_object(
            'id', 'job_' || lpad(to_hex(number + 1000000), 32, '0'),
            'deadline_at', job.deadline_at + number * interval '1 s'
        )
    )
).*
FROM jobs AS job, generate_series(1, :num_jobs - 1) AS number
""")
_PROBLEMS = text("""
INSERT INTO problems (job_id, key, position, prompt, reference_answer, state)
SELECT jobs.id, 'p-' || number, number, 'What is 3 + 4?', '7', 'pending'
FROM jobs, generate_series(0, jobs.num_problems - 1) AS number
ORDER BY jobs.id, number
""")


def main() -> None:
    """Prints a line per tick and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with running_postgres() as url:
        migrate.upgrade(url)
        print(json.dumps(bench(url, args.jobs, args.repeats)))


def bench(url: str, num_jobs: int, repeats: int) -> dict[str, Any]:
    """Seconds of each part of a tick."""
    sessions = session_factory(connect(url))
    now = datetime.now(UTC)
    store_jobs(sessions, num_jobs, now)
    ticks = []
    for _ in range(repeats + 1):
        ticks.append(_timed(sessions, now))
        print({key: round(value, 3) for key, value in ticks[-1].items()}, flush=True)
        now += timedelta(seconds=0.5)
        with transaction(sessions) as session:
            session.execute(update(Worker).values(heartbeat_at=now))
    first, *rest = ticks
    return {
        "jobs": num_jobs,
        "problems": num_jobs * PROBLEMS_PER_JOB,
        "workers": max(1, num_jobs // 10),
        "load_average": os.getloadavg()[0],
        "first": first,
        "next": {key: statistics.median(tick[key] for tick in rest) for key in first},
    }


def store_jobs(sessions: SessionFactory, num_jobs: int, now: datetime) -> None:
    """Store so many live jobs of one tenant, and a tenth as many workers."""
    with transaction(sessions) as session:
        for number in range(max(1, num_jobs // 10)):
            stored_worker(session, f"w{number:04}", now=now)
        stored_job(
            session,
            num_problems=PROBLEMS_PER_JOB,
            created_at=now,
            deadline_at=now + timedelta(hours=1),
            tokens_per_problem=1000.0,
        )
        session.execute(text("DELETE FROM problems"))
        session.execute(_JOBS, {"num_jobs": num_jobs})
        session.execute(_PROBLEMS)
    with transaction(sessions) as session:
        session.execute(text("ANALYZE"))


def _timed(sessions: SessionFactory, now: datetime) -> dict[str, float]:
    """One tick; wall and CPU seconds until the snapshot was read, decided on and written."""
    marks = []

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    def policy(snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        mark()
        decisions = decide(snapshot, config)
        mark()
        return decisions

    scheduler = Scheduler(sessions, lambda *_: True, SchedulerConfig(), policy=policy)
    mark()
    decisions = scheduler.tick(now)
    mark()
    parts = zip(("read", "decide", "write"), pairwise(marks), strict=True)
    times = {
        f"{part}_{kind}": end[which] - start[which]
        for part, (start, end) in parts
        for which, kind in enumerate(("s", "cpu_s"))
    }
    return times | {
        "num_plans": float(len(decisions.plans)),
        "num_new_batches": float(len(decisions.new_batches)),
    }


if __name__ == "__main__":
    main()
