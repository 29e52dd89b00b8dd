"""Opens the store: engine, session factory and the clock-free unit of work."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.orm import Session, sessionmaker

SessionFactory = sessionmaker[Session]

DEAD_PEER: dict[str, int] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    # Milliseconds; for a server that vanished with a query on its way.
    "tcp_user_timeout": 11_000,
}
"""Connection parameters, times in seconds, that notice within about ten seconds that a server
vanished. Most systems take two hours, in which no tick and no heartbeat would come."""


IDLE_LIMIT_S = 5.0
"""How long a transaction may wait for its process, which holds rows meanwhile: a process that is
frozen, but not gone, must not keep the scheduler from them. The longest thought of a healthy one is
a plan of all jobs, a part of a second."""

THOUGHT_S = 30.0
"""The same for a transaction that says so and holds hardly anything that others wait for."""


def normalize_url(url: str) -> str:
    """Name the psycopg 3 driver in a plain `postgresql://` or `postgres://` URL."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def driver_url(url: str) -> str:
    """The same URL as psycopg itself reads it, without SQLAlchemy's driver name."""
    return normalize_url(url).replace("postgresql+psycopg://", "postgresql://", 1)


def connect(url: str, *, pool_size: int = 5) -> Engine:
    """Make an engine whose connections survive a restart of the server."""
    engine = create_engine(
        normalize_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        # Prompts and answers are nothing for logs.
        hide_parameters=True,
        connect_args=dict(DEAD_PEER),
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "before_cursor_execute", _choose_format)
    return engine


BINARY: dict[str, bool] = {"binary_results": True}
"""Execution option of statements that return long `bytea`: as text these take several times as long
as all else."""


def _choose_format(
    _connection: Connection,
    cursor: psycopg.Cursor,
    _statement: str,
    _parameters: object,
    context: ExecutionContext,
    _executemany: bool,
) -> None:
    if context.execution_options.get("binary_results"):
        cursor.format = psycopg.pq.Format.BINARY


def _prepare(connection: psycopg.Connection, _record: object) -> None:
    """Limit idleness, and leave machine code out: no statement runs so long that it would pay."""
    limit = f"{IDLE_LIMIT_S * 1000:.0f}"
    try:
        connection.autocommit = True
        connection.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (limit,)
        )
        connection.execute("SET jit = off")
        connection.autocommit = False
    except psycopg.Error:
        # The pool does not know it yet, so nobody else would.
        connection.close()
        raise


def session_factory(engine: Engine) -> SessionFactory:
    """Make the factory that `transaction` takes."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: SessionFactory) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on an exception."""
    with sessions.begin() as session:
        yield session


def think_longer(session: Session) -> None:
    """Let this transaction wait for its process for up to `THOUGHT_S` between two statements.

    For what weighs all live jobs or sums up many rows, which may take longer than `IDLE_LIMIT_S`.
    """
    limit = f"{THOUGHT_S * 1000:.0f}"
    session.execute(select(func.set_config("idle_in_transaction_session_timeout", limit, True)))
