"""Stores many rows at once, by COPY."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.models.base import Base


def new_ids(session: Session, table: type[Base], num: int) -> list[int]:
    """Ids that nobody else gets, in ascending order."""
    drawn = session.scalars(
        text("SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :num)"),
        {"name": table.__tablename__, "num": num},
    )
    return sorted(drawn)


def copy_rows(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Store rows of the same columns; columns that they lack have their defaults."""
    if not rows:
        return
    columns = list(rows[0])
    # Rows that the session holds back may be what these refer to.
    session.flush()
    driver = session.connection().connection.driver_connection
    assert driver is not None
    statement = f"COPY {table.__tablename__} ({', '.join(columns)}) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([_adapted(row[name]) for name in columns])


def _adapted(value: object) -> object:
    return Jsonb(value) if isinstance(value, dict) else value
