"""Real servers for the tests: one Postgres and one Redis per pytest process.

Each test gets its own database, cloned from a migrated template, and an empty Redis. Under
pytest-xdist every worker process has its own servers, so tests never share state. The
servers die with that process, however it ends.

With `-n 2 --dist loadfile`, as in `make test`, what goes by the clock, as whole Slacklines and
deadlines do, is left to one of the processes: there is never more than one other test beside.
"""

import sys
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
import redis
import structlog
from sqlalchemy import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from db import migrate
from db.session import SessionFactory, connect, session_factory
from infra.servers import Redis, free_port
from tests.servers import running, running_postgres
from tests.stack import open_folder

BY_THE_CLOCK = (
    "tests/chaos/",
    "tests/e2e/",
    "tests/infra/test_local.py",
    "tests/infra/test_supervisor.py",
    "tests/scheduler/test_loop.py",
    "tests/worker/test_",
)

# Log lines of what runs in this process; standard output is for commands. The default tracebacks
# show the values of variables, which takes seconds and keeps connections from being closed.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ],
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)

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


class _OneClock(LoadFileScheduling):  # type: ignore[misc]
    """Hands out file by file, and what goes by the clock as if it were one file."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(BY_THE_CLOCK):
            return "by the clock"
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Take over `--dist loadfile`."""
    return _OneClock(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a throw-away Postgres server that holds the migrated template database."""
    with running_postgres(_FAST_POSTGRES) as url:
        _administer(url, f"CREATE DATABASE {_TEMPLATE}")
        migrate.upgrade(_named(url, _TEMPLATE))
        yield url


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a database without any table, gone after the test."""
    yield from _temporary_database(postgres_url, template="template1")


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """URL of a migrated, empty database, gone after the test."""
    yield from _temporary_database(postgres_url, template=_TEMPLATE)


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a migrated database that the tests of a module share."""
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
    with open_folder() as folder:
        server = Redis(folder, free_port())
        with running(server.child(), folder):
            yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _temporary_database(url: str, template: str) -> Iterator[str]:
    name = f"slackline_{next(_clone_numbers)}"
    # A copy through the log, which is the default, takes ten times as long.
    _administer(url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _named(url, name)
    _administer(url, f"DROP DATABASE {name} WITH (FORCE)")
