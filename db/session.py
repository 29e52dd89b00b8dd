"""Opens the store: engine, session factory and the clock-free unit of work."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
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
    return create_engine(
        normalize_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args=dict(DEAD_PEER),
    )


def session_factory(engine: Engine) -> SessionFactory:
    """Make the factory that `transaction` takes."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: SessionFactory) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on an exception."""
    with sessions.begin() as session:
        yield session
