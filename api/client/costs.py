"""Draws what a job cost."""

from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from api.client.shapes import JobCost

_Part = Literal["useful", "cancelled", "rejected_drafts", "retried", "total"]
_PARTS: tuple[_Part, ...] = ("useful", "cancelled", "rejected_drafts", "retried", "total")


def cost_view(cost: JobCost) -> RenderableType:
    """One row per part, and the total."""
    table = Table(
        "",
        *(Column(name, justify="right") for name in ("row-s", "", "tokens", "")),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    seconds, tokens = cost["row_seconds"], cost["tokens"]
    for part in _PARTS:
        if part == "total":
            table.add_section()
        table.add_row(
            part.replace("_", " "),
            f"{seconds[part]:,.1f}",
            _share(seconds[part], seconds["total"]),
            f"{tokens[part]:,.0f}",
            _share(tokens[part], tokens["total"]),
        )
    title = f"{cost['job_id']} {cost['state']}: {cost['num_branches']:,} branches"
    parts: list[RenderableType] = [Text(title), table]
    if cost["num_lost_batches"]:
        parts.append(
            Text(
                f"{cost['num_lost_batches']} batches were lost; what ran on a killed worker at its"
                " end is in no part."
            )
        )
    return Group(*parts)


def _share(part: float, total: float) -> str:
    return f"{part / total:.0%}" if total else ""
