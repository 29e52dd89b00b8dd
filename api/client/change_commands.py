"""The commands that change a live job or try an ended one again."""

from typing import Annotated

import typer

from api.client import display
from api.client.client import Client
from api.client.completion import JobId
from api.client.screen import Screen


def change(
    client: Client,
    screen: Screen,
    job: JobId,
    deadline: Annotated[
        str | None, typer.Option(help="Another deadline; a duration counts from now.")
    ] = None,
    priority: Annotated[
        float | None, typer.Option(help="Another weight against your other jobs.")
    ] = None,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Without a promise rather than be refused.")
    ] = False,
) -> None:
    """Give a live job another deadline or priority."""
    changed = client.change(job, deadline=deadline, weight=priority, best_effort=best_effort)
    screen.show(changed, display.accepted)


def retry(
    client: Client,
    screen: Screen,
    job: JobId,
    deadline: Annotated[str, typer.Option(help="When these answers are due.")],
    degraded: Annotated[
        bool, typer.Option("--degraded", help="Also what the deadline cut short.")
    ] = False,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Without a promise rather than be refused.")
    ] = False,
) -> None:
    """Try again what failed or expired, in a new job."""
    again = client.retry(job, deadline=deadline, degraded=degraded, best_effort=best_effort)
    screen.show(again, display.accepted)
