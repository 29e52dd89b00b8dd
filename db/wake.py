"""Wakes who waits for news: NOTIFY inside the sender's transaction, LISTEN on the other side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.session import DEAD_PEER, driver_url
from scheduler.core.messages import WAKE_CHANNEL


def notify(session: Session) -> None:
    """Ask for a tick once this transaction commits; Postgres folds repeated asks into one."""
    session.execute(select(func.pg_notify(WAKE_CHANNEL, "")))


class Listener:
    """Waits for wake-ups on a connection of its own.

    That of a scheduler also carries the leader's lock: while it lives, both do.
    """

    def __init__(self, connection: psycopg.Connection, channels: Sequence[str]) -> None:
        self.connection = connection
        for channel in channels:
            connection.execute(SQL("LISTEN {}").format(Identifier(channel)))

    def wait(self, timeout_s: float) -> bool:
        """Block until a wake-up or the timeout; True for a wake-up. Swallows all that are queued.

        Raises:
            psycopg.OperationalError: The connection is gone.
        """
        woken = False
        for _ in self.connection.notifies(timeout=timeout_s, stop_after=1):
            woken = True
        return woken


@contextmanager
def listen(url: str, channels: Sequence[str] = (WAKE_CHANNEL,)) -> Iterator[Listener]:
    """Open a listener on a connection of its own."""
    conninfo = make_conninfo(driver_url(url), **DEAD_PEER)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield Listener(connection, channels)
