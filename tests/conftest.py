"""Real servers for the tests: one Postgres and one Redis per pytest process.

Each test gets its own database, cloned from a migrated template, and an empty Redis. Under
pytest-xdist every worker process has its own servers, so tests never share state. The
servers die with that process, however it ends.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from db import migrate
from db.session import SessionFactory, connect, session_factory
from infra.processes import Child, ChildSpec
from infra.servers import Postgres, Redis, free_port

_TEMPLATE = "slackline_template"
_clone_numbers = count()

# Durability is worth nothing to a database that lives for one test run.
_FAST_POSTGRES = """
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 64MB
max_connections = 200
autovacuum = off
jit = off
"""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a throw-away Postgres server that holds the migrated template database."""
    with tempfile.TemporaryDirectory(prefix="slackline-test-") as folder:
        server = Postgres(Path(folder) / "postgres")
        with (server.data_dir / "postgresql.conf").open("a") as settings:
            settings.write(_FAST_POSTGRES)
        with _running(server.child(), Path(folder)):
            _administer(server.url, f"CREATE DATABASE {_TEMPLATE}")
            migrate.upgrade(_named(server.url, _TEMPLATE))
            yield server.url
        server.close()


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a database without any table, gone after the test."""
    yield from _temporary_database(postgres_url, template="template1")


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """URL of a migrated, empty database, gone after the test."""
    yield from _temporary_database(postgres_url, template=_TEMPLATE)


@pytest.fixture
def sessions(database_url: str) -> Iterator[SessionFactory]:
    """Sessions on the test's own database."""
    engine = connect(database_url, pool_size=10)
    yield session_factory(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """URL of a throw-away Redis server."""
    with tempfile.TemporaryDirectory(prefix="slackline-test-") as folder:
        server = Redis(Path(folder), free_port())
        with _running(server.child(), Path(folder)):
            yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


@contextmanager
def _running(spec: ChildSpec, folder: Path, timeout_s: float = 30.0) -> Iterator[None]:
    """Run a server until the end of the block."""
    server = Child(spec, folder / f"{spec.name}.log")
    server.start()
    try:
        give_up_at = time.monotonic() + timeout_s
        while not server.check_ready():
            assert server.returncode is None, server.log_tail()
            assert time.monotonic() < give_up_at, server.log_tail()
            time.sleep(0.01)
        yield
    finally:
        server.stop()


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _temporary_database(url: str, template: str) -> Iterator[str]:
    name = f"slackline_{next(_clone_numbers)}"
    _administer(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(url, name)
    _administer(url, f"DROP DATABASE {name} WITH (FORCE)")
