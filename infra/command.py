"""The `slackline` command: the client's commands, and those that run Slackline itself.

Heavy parts are imported inside the commands that need them, so that `slackline submit` starts
fast and only a worker imports an engine.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from api.client.commands import app
from infra import server_commands, worker_commands

server_commands.add_to(app)
worker_commands.add_to(app)

__all__ = ["app", "main"]

DataOption = Annotated[
    Path, typer.Option(help="Folder of the database, the logs and the state file.")
]


@app.command()
def up(
    data: DataOption = Path(".slackline"),
    engine: Annotated[
        list[str] | None,
        typer.Option(help="torch, vllm, openai or replay, for each worker one."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Wanted port of the API.")] = 8000,
) -> None:
    """Run everything on this machine: Postgres, Redis, API, scheduler and workers.

    DATABASE_URL and REDIS_URL name servers of your own to use instead.
    """
    from rich.console import Console

    from infra.demo_engines import DEMO_SETTINGS
    from infra.local import LocalOptions, run_local

    engines = tuple(engine or ["torch"])
    kinds = (*DEMO_SETTINGS, "openai")
    for kind in engines:
        if kind not in kinds:
            known = ", ".join(kinds)
            raise typer.BadParameter(f"{kind!r} is none of {known}", param_hint="--engine")
    options = LocalOptions(
        data=data,
        engines=engines,
        host=host,
        port=port,
        database_url=os.environ.get("DATABASE_URL"),
        redis_url=os.environ.get("REDIS_URL"),
    )
    raise typer.Exit(run_local(options, Console()))


@app.command()
def down(data: DataOption = Path(".slackline")) -> None:
    """Stop the Slackline that `up` runs on a data folder."""
    from rich.console import Console

    from infra.local import stop_local

    raise typer.Exit(stop_local(data, Console()))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder to keep; a temporary one by default.")
    ] = None,
    problems: Annotated[
        int | None, typer.Option(min=1, help="Submit only so many problems per job.")
    ] = None,
) -> None:
    """Run two jobs through everything on this machine and show what came out."""
    from infra.demo import run_demo

    raise typer.Exit(run_demo(data, problems))


def main() -> None:
    """Entry point of the installed command."""
    # Logs of servers want plain tracebacks, and people want messages rather than either.
    app.pretty_exceptions_enable = False
    app(prog_name="slackline")


if __name__ == "__main__":
    main()
