"""One scheduler leads: an advisory lock that lives exactly as long as its connection."""

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

_LOCK_KEY = 0x534C4B4C
"""Advisory lock of the leader; any constant that no other lock of Slackline uses."""


def try_lead(connection: psycopg.Connection) -> bool:
    """Take the lead with this connection, or keep it; False while another connection leads.

    A leader whose connection broke may finish its tick beside the next leader. That is harmless,
    since every write of a tick is guarded.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,)).fetchone()
    return row is not None and bool(row[0])


def is_led(session: Session) -> bool:
    """Whether some scheduler leads on this database at this moment."""
    found = session.scalar(
        text(
            """
            SELECT EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                    AND classid = 0 AND objid = :key
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            )
            """
        ),
        {"key": _LOCK_KEY},
    )
    return bool(found)
