"""A live API on a real Postgres: one server and database per module, emptied before each test."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from db import keys
from db.models import Base, IdempotencyKey, Job, JobEvent, Problem
from db.session import SessionFactory, connect, session_factory, transaction
from tests.api.live import client_of, served
from tests.factories import stored_worker

Serve = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def database_url(shared_database_url: str) -> str:
    """URL of a migrated database that the tests of a module share."""
    return shared_database_url


@pytest.fixture(scope="module")
def shared_sessions(database_url: str) -> Iterator[SessionFactory]:
    """Sessions on the module's database."""
    engine = connect(database_url, pool_size=10)
    yield session_factory(engine)
    engine.dispose()


@pytest.fixture
def sessions(shared_sessions: SessionFactory) -> SessionFactory:
    """Sessions on an empty database."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            with transaction(shared_sessions) as session:
                # The server's clerk locks the same rows in another order. Who waits here steps
                # back long before Postgres looks for a deadlock, so neither is its victim.
                session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                # Everything goes, so no reference needs a look.
                session.execute(text("SET LOCAL session_replication_role = replica"))
                for table in Base.metadata.sorted_tables:
                    session.execute(table.delete())
        except OperationalError as error:
            is_locked = isinstance(error.orig, psycopg.errors.LockNotAvailable)
            if not is_locked or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return shared_sessions


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    """URL of the API with default limits, where the same set may be submitted many times."""
    with served(database_url=database_url, dedup_window_s=0) as address:
        yield address


@pytest.fixture
def serve(database_url: str, sessions: SessionFactory) -> Iterator[Serve]:  # noqa: ARG001
    """Starts the application with other settings; returns a client with the local key."""
    with ExitStack() as stack:

        def start(**settings: Any) -> httpx.Client:
            address = stack.enter_context(served(**({"database_url": database_url} | settings)))
            return stack.enter_context(client_of(address))

        yield start


@pytest.fixture
def api_alone(url: str, sessions: SessionFactory) -> Iterator[httpx.Client]:  # noqa: ARG001
    """The API with default limits and no worker."""
    with client_of(url) as client:
        yield client


@pytest.fixture
def api(api_alone: httpx.Client, worker: str) -> httpx.Client:  # noqa: ARG001
    """The API with default limits and one worker alive."""
    return api_alone


@pytest.fixture
def stranger(url: str, sessions: SessionFactory) -> Iterator[httpx.Client]:
    """A client of another tenant."""
    secret = keys.new_secret()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        tenant_id = keys.create_tenant(session, name="stranger", now=now)
        digest = keys.hash_secret(secret)
        keys.insert_api_key(session, tenant_id=tenant_id, key_sha256=digest, label="test", now=now)
    with client_of(url, secret) as client:
        yield client


@pytest.fixture
def worker(sessions: SessionFactory) -> str:
    """A worker whose last heartbeat lies ahead, so that it stays alive through a slow test."""
    with transaction(sessions) as session:
        return stored_worker(session, now=datetime.now(UTC) + timedelta(minutes=10))


@pytest.fixture
def stored_rows(sessions: SessionFactory) -> Callable[[], dict[str, int]]:
    """Counts the rows that a submission writes."""

    def count_rows() -> dict[str, int]:
        with transaction(sessions) as session:
            return {
                table.__tablename__: session.scalars(select(func.count()).select_from(table)).one()
                for table in (Job, Problem, IdempotencyKey, JobEvent)
            }

    return count_rows
