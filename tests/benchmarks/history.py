"""Do reports over ten million branches answer as fast as over one million?

Questions: (1) What is the median time of each report of the page, over HTTP, at each size of the
history? (2) What is it at the largest size as a multiple of the smallest? (3) How far are the
percentiles from the exact ones, and how long does Postgres take for these? (4) How long does it
take to sum up the history, and how large are the sums?

Regimes: 30 made-up days (`tests/history.py`) at each size, with their own databases on one Postgres
with its defaults, and one API process of the real command for each. Hours are summed up before, as
the scheduler would have. Ranges are at full hours, as on the page, but for `latency, odd minutes`,
whose ends are read from rows and which no claim is about. Rounds alternate between the sizes.

Falsified when: a median at the largest size is over 100 ms, it is more than 1.3 times that at the
smallest, or a percentile is off by more than 1%.

    python -m tests.benchmarks.history --branches 1000000 10000000

With `--folder` the histories stay there, and a later run only measures. While they are loaded
Postgres leaves out `fsync` and has room for its log, and two threads sum up; reports are asked of a
Postgres with its defaults.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

from db import migrate
from db.partitions import TABLES, Week, make_week
from db.reports.rollups import due_days, roll_up_day
from db.session import connect, driver_url, session_factory, transaction
from infra.processes import Child, ChildSpec
from infra.servers import Postgres, free_port
from infra.services import api_child
from tests import history

END = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 30
KEY = "sk-slk-benchmark"
NUM_THREADS = 2
"""That sum up days at the same time; the scheduler has one."""

MONTH, WEEK, DAY = timedelta(days=DAYS), timedelta(days=7), timedelta(days=1)
QUESTIONS: dict[str, tuple[str, timedelta, dict[str, str]]] = {
    "latency, month": ("latency", MONTH, {}),
    "latency, month by day and model": ("latency", MONTH, {"every": "day", "group_by": "model"}),
    "latency, day by hour": ("latency", DAY, {"every": "hour"}),
    "latency, month of a model and a split": ("latency", MONTH, {"model": "large", "split": "8x2"}),
    "attainment, month": ("attainment", MONTH, {}),
    "attainment, month by day": ("attainment", MONTH, {"every": "day"}),
    "attainment, day": ("attainment", DAY, {}),
    "calibration, month": ("calibration", MONTH, {}),
    "calibration, month by deadline": ("calibration", MONTH, {"group_by": "deadline_class"}),
    "accuracy, month": ("accuracy", MONTH, {}),
    "accuracy, week by family": ("accuracy", WEEK, {"group_by": "family"}),
    "speculation, month": ("speculation", MONTH, {}),
    "speculation, week by engine": ("speculation", WEEK, {"group_by": "engine"}),
    "costs, month": ("costs", MONTH, {}),
    "costs, week by deadline and engine": (
        "costs",
        WEEK,
        {"group_by": "deadline_class", "engine": "vllm"},
    ),
    "compare, two weeks": ("compare", WEEK, {"report": "latency", "group_by": "split"}),
}
ODD = "latency, odd minutes"
QUESTIONS[ODD] = ("latency", MONTH - timedelta(minutes=17), {})

_EXACT = """
SELECT percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY queue_time_s),
    percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY ttft_s),
    percentile_cont(ARRAY[0.5, 0.9, 0.99])
        WITHIN GROUP (ORDER BY decode_time_s / nullif(completion_tokens - 1, 0)),
    percentile_cont(ARRAY[0.5, 0.9, 0.99])
        WITHIN GROUP (ORDER BY extract(epoch FROM branches.finished_at - queued_at)::float8)
FROM branches JOIN jobs ON jobs.id = branches.job_id
WHERE tenant_id = 'ten_local' AND finish_reason IN ('stop', 'length')
    AND branches.finished_at >= %s AND branches.finished_at < %s
"""


@dataclass(frozen=True, slots=True)
class Store:
    """A loaded history and the client of an API on it."""

    num_branches: int
    url: str
    client: httpx.Client


def main() -> None:
    """Prints a table and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branches", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="Keep the histories, or use those kept there.")
    parser.add_argument("--load-only", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = args.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="slackline-history-"))
        )
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
        records = [kept(folder, num_branches) for num_branches in args.branches]
        if args.load_only:
            return
        postgres = Postgres(folder / "postgres")
        stack.enter_context(running(postgres.child(), folder))
        stores = []
        for record, num_branches in zip(records, args.branches, strict=True):
            url = database_url(postgres, num_branches)
            client = stack.enter_context(served(url, folder / str(num_branches)))
            stores.append(Store(num_branches, url, client))
            record |= exactness(stores[-1])
            print(json.dumps(record), flush=True)
        medians = measure(stores, args.rounds)
    largest, smallest = medians[max(args.branches)], medians[min(args.branches)]
    claimed = [name for name in QUESTIONS if name != ODD]
    summary = {
        "benchmark": "history",
        "stores": records,
        "median_ms": {str(size): found for size, found in medians.items()},
        "ratio": {name: largest[name] / smallest[name] for name in QUESTIONS},
        "worst_median_ms": max(largest[name] for name in claimed),
        "worst_ratio": max(largest[name] / smallest[name] for name in claimed),
    }
    print(json.dumps(summary))


def kept(folder: Path, num_branches: int) -> dict[str, Any]:
    """Load and sum up a history unless the folder has it; returns what it took."""
    file = folder / f"{num_branches}.json"
    if not file.exists():
        postgres = Postgres(folder / "postgres")
        with running(_hasty(postgres.child()), folder):
            with psycopg.connect(driver_url(postgres.url), autocommit=True) as connection:
                name = f"history_{num_branches}"
                connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())
                connection.execute(f"CREATE DATABASE {name}".encode())
            record = loaded(database_url(postgres, num_branches), num_branches)
        file.write_text(json.dumps(record))
        print(json.dumps(record), flush=True)
    return dict(json.loads(file.read_text()))


def _hasty(spec: ChildSpec) -> ChildSpec:
    options = ("fsync=off", "full_page_writes=off", "max_wal_size=16GB", "autovacuum=off")
    return replace(spec, argv=(*spec.argv, *(f"--{option}" for option in options)))


def database_url(postgres: Postgres, num_branches: int) -> str:
    """Where the history of this size is."""
    name = f"history_{num_branches}"
    return make_url(postgres.url).set(database=name).render_as_string(hide_password=False)


def loaded(url: str, num_branches: int) -> dict[str, Any]:
    """Load and sum up one history; returns what it took."""
    migrate.upgrade(url)
    sessions = session_factory(connect(url, pool_size=NUM_THREADS))
    with transaction(sessions) as session:
        for table in TABLES:
            for number in range(DAYS // 7 + 2):
                assert make_week(session, table, Week.of(END - number * WEEK))
    began_s = time.perf_counter()
    history.load(url, num_branches, until=END, days=DAYS)
    load_s = time.perf_counter() - began_s
    with psycopg.connect(driver_url(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    began_s = time.perf_counter()
    now = END + timedelta(hours=2)
    with transaction(sessions) as session:
        days = due_days(session, now=now)

    def sum_up(day: datetime) -> int:
        with transaction(sessions) as session:
            return roll_up_day(session, day, now=now)

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        num_hours = sum(pool.map(sum_up, days))
    sum_up_s = time.perf_counter() - began_s
    with psycopg.connect(driver_url(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        sizes = connection.execute(
            "SELECT (SELECT count(*) FROM branches), (SELECT count(*) FROM jobs),"
            " (SELECT count(*) FROM rollups),"
            " (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('branches'))::int8,"
            " pg_total_relation_size('rollups')"
        ).fetchone()
    assert sizes is not None
    return {
        "num_branches": sizes[0],
        "num_jobs": sizes[1],
        "num_rollups": sizes[2],
        "branches_mib": sizes[3] / 2**20,
        "rollups_mib": sizes[4] / 2**20,
        "load_s": load_s,
        "sum_up_s": sum_up_s,
        "sum_up_ms_per_hour": 1000 * sum_up_s / num_hours,
    }


@contextmanager
def served(url: str, folder: Path) -> Iterator[httpx.Client]:
    """A client of the real API command on a database."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = {"DATABASE_URL": url, "SLACKLINE_LOCAL_KEY": KEY}
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        running(api_child("127.0.0.1", port, address, env), folder),
        httpx.Client(base_url=address, headers=headers, timeout=300) as client,
    ):
        yield client


@contextmanager
def running(spec: ChildSpec, folder: Path) -> Iterator[Child]:
    """Run a process until the end of the block."""
    child = Child(spec, folder / f"{spec.name}.log")
    child.start()
    try:
        while not child.check_ready():
            assert child.returncode is None, child.log_tail()
            time.sleep(0.05)
        yield child
    finally:
        child.stop()


def ask(store: Store, name: str) -> httpx.Response:
    """One report."""
    report, span, params = QUESTIONS[name]
    params = {"start": (END - span).isoformat(), "end": END.isoformat(), **params}
    answer = store.client.get(f"/v1/reports/{report}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def exactness(store: Store) -> dict[str, float]:
    """The worst error of a percentile of the month, and how long the exact ones take."""
    (row,) = ask(store, "latency, month").json()["data"]
    began_s = time.perf_counter()
    with psycopg.connect(driver_url(store.url)) as connection:
        exact = connection.execute(_EXACT, (END - MONTH, END)).fetchone()
    exact_s = time.perf_counter() - began_s
    assert exact is not None
    errors = [
        abs(row[stage][name] / value - 1)
        for stage, values in zip(
            ("queue_time_s", "ttft_s", "tpot_s", "e2e_latency_s"), exact, strict=True
        )
        for name, value in zip(("p50", "p90", "p99"), values, strict=True)
    ]
    return {"worst_percentile_error": max(errors), "exact_query_s": exact_s}


def measure(stores: list[Store], num_rounds: int) -> dict[int, dict[str, float]]:
    """Medians in milliseconds by size and question; prints them."""
    times: dict[int, dict[str, list[float]]] = {
        store.num_branches: {name: [] for name in QUESTIONS} for store in stores
    }
    for number in range(num_rounds + 1):
        for name in QUESTIONS:
            for store in stores:
                began_s = time.perf_counter()
                ask(store, name)
                # The first round warms the caches up.
                if number:
                    found = times[store.num_branches][name]
                    found.append(1000 * (time.perf_counter() - began_s))
    medians = {
        size: {name: statistics.median(found) for name, found in of_size.items()}
        for size, of_size in times.items()
    }
    largest, smallest = medians[max(medians)], medians[min(medians)]
    for name in QUESTIONS:
        row = "  ".join(f"{medians[store.num_branches][name]:8.1f} ms" for store in stores)
        print(f"{name:<40}{row}  {largest[name] / smallest[name]:6.2f}x")
    return medians


if __name__ == "__main__":
    main()
