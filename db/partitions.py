"""Partitions of branches and events, one for each week in which jobs were made.

Theory of operation: an id of a job begins with the instant at which it was made (UUIDv7), so a week
is a range of ids. All rows of a job lie in one partition, which statements that name the job find
at once, and whose key counts each branch once. A week is forgotten by dropping its partition.
Weeks are made before they begin. Rows of a week without one lie in the default partition
until the week is made, which moves them over: rows are never refused.

Making and dropping want locks that writers hold for moments. Whoever waits for such a lock keeps
others waiting, so after `_PATIENCE` the attempt is given up, and made again by the next pass.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.reports.periods import DAY

TABLES = ("branches", "job_events")
WEEK = timedelta(days=7)

AHEAD = timedelta(days=28)
"""How far ahead weeks are made: no scheduler may lead for a while."""

_PATIENCE = "500ms"
"""Below Postgres' `deadlock_timeout`, so that no writer is the one who is given up."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Week(NamedTuple):
    """Seven days from a Monday of UTC on, and the ids of the jobs that were made in them."""

    start_at: datetime

    @classmethod
    def of(cls, at: datetime) -> Self:
        """The week that holds an instant."""
        at = at.astimezone(UTC)
        return cls(at.replace(hour=0, minute=0, second=0, microsecond=0) - at.weekday() * DAY)

    @classmethod
    def of_job(cls, job_id: str) -> Self:
        """The week in which a job was made."""
        made_ms = int(job_id.removeprefix("job_")[:12], 16)
        return cls.of(_EPOCH + timedelta(milliseconds=made_ms))

    @property
    def end_at(self) -> datetime:
        """The beginning of the next."""
        return self.start_at + WEEK

    @property
    def jobs(self) -> dict[str, str]:
        """The range of its ids, the end exclusive."""
        return {"first": first_job_id(self.start_at), "end": first_job_id(self.end_at)}

    def __str__(self) -> str:
        return f"{self.start_at:%Y-%m-%d}"

    def partition_of(self, table: str) -> str:
        """Name of its partition."""
        return f"{table}_{self.start_at:%Y%m%d}"


def first_job_id(at: datetime) -> str:
    """What is at most the id of every job that was made at an instant or later."""
    return f"job_{max(0, (at - _EPOCH) // timedelta(milliseconds=1)):012x}"


def weeks_to_make(session: Session, table: str, *, now: datetime) -> list[Week]:
    """Weeks without a partition: this one, those ahead, and those that rows wait for."""
    made = set(weeks_of(session, table))
    this = Week.of(now)
    wanted = [Week(this.start_at + n * WEEK) for n in range(1 + AHEAD // WEEK)]
    waiting = session.scalars(
        text(f"SELECT DISTINCT job_id FROM {table}_default WHERE job_id ~ '^job_[0-9a-f]{{32}}$'")
    )
    wanted += sorted(map(Week.of_job, waiting))
    return [week for week in dict.fromkeys(wanted) if week not in made]


_PARTITIONS = text("""
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = CAST(:table AS regclass) AND relname ~ '_[0-9]{8}$'
ORDER BY relname
""")


def weeks_of(session: Session, table: str) -> list[Week]:
    """Weeks that have a partition, oldest first."""
    names = session.scalars(_PARTITIONS, {"table": table})
    return [Week(datetime.strptime(f"{name[-8:]}Z", "%Y%m%d%z")) for name in names]


def make_week(session: Session, table: str, week: Week) -> bool:
    """Make a partition, with the rows of its jobs that came before it.

    Returns:
        False when somebody held a lock for too long; then nothing has changed.
    """
    partition, jobs = week.partition_of(table), week.jobs
    return _patiently(
        session,
        f"LOCK TABLE {table}_default IN SHARE ROW EXCLUSIVE MODE",
        f"CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        f"WITH moved AS (DELETE FROM {table}_default"
        f" WHERE job_id >= '{jobs['first']}' AND job_id < '{jobs['end']}' RETURNING *)"
        f" INSERT INTO {partition} SELECT * FROM moved",
        f"ALTER TABLE {table} ATTACH PARTITION {partition}"
        f" FOR VALUES FROM ('{jobs['first']}') TO ('{jobs['end']}')",
    )


def drop_week(session: Session, table: str, week: Week) -> bool:
    """Forget a week; False when somebody held a lock for too long."""
    return _patiently(session, f"DROP TABLE {week.partition_of(table)}")


def _patiently(session: Session, *statements: str) -> bool:
    try:
        with session.begin_nested():
            session.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
            for statement in statements:
                session.execute(text(statement))
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            return False
        raise
    return True


_UNKNOWN = text("""
SELECT relname FROM pg_stat_user_tables
WHERE relid = CAST(:table AS regclass) AND coalesce(last_analyze, '-infinity') < :since
""")


def refresh_statistics(session: Session, *, now: datetime) -> None:
    """Let Postgres look at the tables as a whole once a day: by itself it looks at partitions only.

    What it knows of the whole is what it plans joins by.
    """
    for table in TABLES:
        if session.scalar(_UNKNOWN, {"table": table, "since": now - DAY}):
            session.execute(text(f"ANALYZE {table}"))
