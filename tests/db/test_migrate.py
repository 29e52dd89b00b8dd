"""The migrations and the models describe the same schema."""

from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from db import migrate
from db.models import Base
from db.session import normalize_url

# Alembic compares neither CHECK constraints nor the predicates of partial indexes.
_CATALOG = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION ALL
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default, is_identity)
FROM information_schema.columns WHERE table_schema = 'public'
"""


def _catalog(connection: Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute(text(_CATALOG)).all()
    return {(row[0], row[1], row[2]) for row in rows if not row[0].startswith("alembic")}


def test_the_upgrade_gives_the_schema_of_the_models(
    database_url: str, empty_database_url: str
) -> None:
    with create_engine(normalize_url(database_url), poolclass=NullPool).connect() as migrated:
        assert compare_metadata(MigrationContext.configure(migrated), Base.metadata) == []
        by_migration = _catalog(migrated)
    with create_engine(normalize_url(empty_database_url), poolclass=NullPool).begin() as declared:
        Base.metadata.create_all(declared)
        assert by_migration == _catalog(declared)


def test_the_downgrade_leaves_nothing_behind(database_url: str) -> None:
    migrate.downgrade(database_url)
    with create_engine(normalize_url(database_url), poolclass=NullPool).connect() as connection:
        assert _catalog(connection) == set()
    assert migrate.current(database_url) is None


def test_the_revision_is_known_before_and_after_the_upgrade(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head() == "0022"


def test_processes_that_migrate_at_once_do_not_collide(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [empty_database_url] * 4))
    assert migrate.current(empty_database_url) == migrate.head()
