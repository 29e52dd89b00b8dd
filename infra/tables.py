"""Rows of the store as a table for people."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

Row = dict[str, Any]


def table_of(rows: Sequence[Row]) -> Table | str:
    """A table of rows that have the same keys."""
    if not rows:
        return "none"
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_shown(name, value) for name, value in row.items()))
    return table


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at"):
        return str(value)[:16].replace("T", " ")
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
