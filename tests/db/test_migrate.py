"""The migrations and the models describe the same schema."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from db import migrate
from db.models import Base
from db.session import driver_url, normalize_url
from tests import history
from tests.factories import NOW

# Alembic compares neither CHECK constraints nor the predicates of partial indexes.
_PARTITIONS = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'"
_CATALOG = f"""
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    AND conrelid::regclass::text NOT IN ({_PARTITIONS})
UNION ALL
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    AND tablename NOT IN ({_PARTITIONS})
UNION ALL
SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default, is_identity)
FROM information_schema.columns WHERE table_schema = 'public'
    AND table_name NOT IN ({_PARTITIONS})
UNION ALL
SELECT partrelid::regclass::text, 'partition key', pg_get_partkeydef(partrelid)
FROM pg_partitioned_table
"""


def _catalog(connection: Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute(text(_CATALOG)).all()
    return {(row[0], row[1], row[2]) for row in rows if not row[0].startswith("alembic")}


def test_the_upgrade_gives_the_schema_of_the_models(
    database_url: str, empty_database_url: str
) -> None:
    with create_engine(normalize_url(database_url), poolclass=NullPool).connect() as migrated:
        partitions = set(migrated.scalars(text(_PARTITIONS)))
        assert partitions == {"branches_default", "job_events_default"}
        compared = MigrationContext.configure(
            migrated, opts={"include_name": lambda name, *_: name not in partitions}
        )
        assert compare_metadata(compared, Base.metadata) == []
        by_migration = _catalog(migrated)
    with create_engine(normalize_url(empty_database_url), poolclass=NullPool).begin() as declared:
        Base.metadata.create_all(declared)
        assert by_migration == _catalog(declared)


_ROWS = """
SELECT
    (SELECT sum(hashtext((to_jsonb(branches) - 'id')::text)) FROM branches),
    (SELECT sum(hashtext(to_jsonb(job_events)::text)) FROM job_events)
"""


_ADD_ROLLUPS = """
INSERT INTO rollups
    (subject, detail, period, tenant_id, at, model, engine, family, deadline_class, split, sums)
SELECT 'jobs', 'all', 'day', 'ten_local', '2026-01-04Z', 'small', 'vllm', family, '1d', '8x2', sums
FROM (VALUES ('any', 'a'::bytea), ('algebra', 'b'::bytea)) AS rollup (family, sums)
"""


def test_rows_move_to_their_weeks_and_back(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    history.load(empty_database_url, 500, until=NOW, days=2)
    migrate.downgrade(empty_database_url, "0022")
    with psycopg.connect(driver_url(empty_database_url), autocommit=True) as store:
        add_events = (
            "INSERT INTO job_events (job_id, tenant_id, at, kind)"
            " SELECT id, tenant_id, finished_at, 'x' FROM jobs"
        )
        store.execute(add_events)
        store.execute("UPDATE history_hours SET state = 'rolled'")
        store.execute(_ADD_ROLLUPS)
        before = store.execute(_ROWS).fetchone()

        migrate.upgrade(empty_database_url, "0023")

        assert store.execute(_ROWS).fetchone() == before
        for table in ("branches", "job_events"):
            places = store.execute(
                f"SELECT DISTINCT tableoid::regclass::text FROM {table}".encode()
            )
            assert set(places) == {(f"{table}_20251229",), (f"{table}_20260105",)}
        assert store.execute("SELECT DISTINCT state FROM history_hours").fetchall() == [("stale",)]
        by_two = store.execute("SELECT split, sums FROM rollups WHERE detail = 'model+split'")
        assert by_two.fetchall() == [("8x2", b"ab")]
        store.execute(add_events)
        assert store.execute("SELECT count(DISTINCT id) = count(*) FROM job_events").fetchone() == (
            True,
        )
        before = store.execute(_ROWS).fetchone()

        migrate.downgrade(empty_database_url, "0022")

        assert store.execute(_ROWS).fetchone() == before
        store.execute(add_events)


# Every other job has answers that came a second after a deadline of their own; one was cancelled.
_ADD_PARTS = """
UPDATE problems SET part = 1 WHERE state = 'answered';
INSERT INTO job_parts (
    job_id, part, deadline_at, num_problems, admitted_finish_at, admitted_finish_p95_at,
    admitted_accuracy, met_deadline
)
SELECT id, 1, finished_at - late_s * interval '1 second', 1, now(), now(), 0.5,
    late_s = 0 AND finished_at <= deadline_at
FROM jobs
JOIN (SELECT id, row_number() OVER (ORDER BY id) % 2 AS late_s FROM jobs) AS drawn USING (id)
WHERE id IN (SELECT job_id FROM problems WHERE part = 1);
UPDATE jobs SET met_deadline = false
WHERE id IN (SELECT job_id FROM job_parts WHERE NOT met_deadline);
DELETE FROM job_parts WHERE job_id = (SELECT min(job_id) FROM job_parts);
UPDATE jobs SET state = 'cancelled', met_deadline = NULL
WHERE id NOT IN (SELECT job_id FROM job_parts);
"""
_MET = """
SELECT id, jobs.met_deadline, job_parts.met_deadline
FROM jobs LEFT JOIN job_parts ON job_id = id
ORDER BY id
"""


def test_jobs_of_older_releases_are_told_whether_they_met_their_deadlines(
    empty_database_url: str,
) -> None:
    migrate.upgrade(empty_database_url)
    history.load(empty_database_url, 5000, until=NOW, days=2)
    with psycopg.connect(driver_url(empty_database_url), autocommit=True) as store:
        store.execute(_ADD_PARTS)
        before = store.execute(_MET).fetchall()
        assert {(True, True), (False, False), (None, None)} <= {row[1:] for row in before}

        migrate.downgrade(empty_database_url, "0025")
        migrate.upgrade(empty_database_url)

        assert store.execute(_MET).fetchall() == before


def test_the_downgrade_leaves_nothing_behind(database_url: str) -> None:
    migrate.downgrade(database_url)
    with create_engine(normalize_url(database_url), poolclass=NullPool).connect() as connection:
        assert _catalog(connection) == set()
    assert migrate.current(database_url) is None


def test_the_revision_is_known_before_and_after_the_upgrade(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head() == "0026"


def test_processes_that_migrate_at_once_do_not_collide(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [empty_database_url] * 4))
    assert migrate.current(empty_database_url) == migrate.head()
