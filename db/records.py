"""Values as Postgres reads them from JSON: many rows in one statement and one round trip."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any


def records(values: Sequence[Any]) -> str:
    """Values of one dataclass for `json_populate_recordset`, by the names of their fields."""
    names = [field.name for field in fields(values[0])] if values else []
    rows = [{name: _stored(getattr(value, name)) for name in names} for value in values]
    return json.dumps(rows)


def storable(value: str | None) -> str | None:
    """Postgres has no NUL characters in text."""
    return None if value is None else value.replace("\0", "")


def _stored(value: object) -> object:
    if isinstance(value, str):
        return storable(value)
    return value.isoformat() if isinstance(value, datetime) else value
