"""What does it cost that ids of events grow in the order of commits?

Question: how many transactions per second do writers of events commit, one by one under the lock of
`db.events`, as a share of the rate of plain inserts? Regimes: 1 and 8 writers, each transaction an
update of a job of its own, one event and the NOTIFY by which the scheduler is woken; Postgres with
its defaults (`fsync` on). Rounds alternate; rates are medians.

Falsified when: with 8 writers the rate is below half of that of plain inserts, which with their
NOTIFY take turns at the commit as well.

    python -m tests.benchmarks.event_order
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from db import events, migrate, wake
from db.keys import LOCAL_TENANT
from db.models import Job, JobEvent
from db.session import SessionFactory, connect, session_factory, transaction
from scheduler.core.event_kinds import EventKind
from tests.factories import NOW, stored_job
from tests.servers import running_postgres

Write = Callable[[Session, str], None]


def ordered(session: Session, job_id: str) -> None:
    """As the product does it."""
    events.record(session, job_id=job_id, kind=EventKind.PLAN_STORED, data={}, now=NOW)


def plain(session: Session, job_id: str) -> None:
    """An insert at once, in no order."""
    row = {"job_id": job_id, "tenant_id": LOCAL_TENANT, "at": NOW, "kind": "plan.stored"}
    session.execute(insert(JobEvent), [row])


def rate(sessions: SessionFactory, job_ids: list[str], write: Write, seconds: float) -> float:
    """Transactions per second of one writer per job."""
    until = time.monotonic() + seconds

    def commit(job_id: str) -> int:
        done = 0
        while time.monotonic() < until:
            with transaction(sessions) as session:
                session.execute(update(Job).where(Job.id == job_id).values(weight=1.0 + done))
                write(session, job_id)
                wake.notify(session)
            done += 1
        return done

    with ThreadPoolExecutor(len(job_ids)) as pool:
        return sum(pool.map(commit, job_ids)) / seconds


def main() -> None:
    """Prints a line per number of writers and, last, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    summary = {}
    with running_postgres() as url:
        migrate.upgrade(url)
        sessions = session_factory(connect(url, pool_size=8))
        with transaction(sessions) as session:
            job_ids = [stored_job(session, num_problems=1) for _ in range(8)]
        for writers in (1, 8):
            rates: dict[str, list[float]] = {"ordered": [], "plain": []}
            for _ in range(args.rounds):
                for write in (ordered, plain):
                    found = rate(sessions, job_ids[:writers], write, args.seconds)
                    rates[write.__name__].append(found)
            medians = {name: statistics.median(found) for name, found in rates.items()}
            share = medians["ordered"] / medians["plain"]
            print(
                f"{writers} writers: {medians['ordered']:,.0f}/s ordered,"
                f" {medians['plain']:,.0f}/s plain, share {share:.2f}"
            )
            summary[str(writers)] = {**medians, "share": share}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
