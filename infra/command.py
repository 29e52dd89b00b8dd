"""The `slackline` command: the client's commands, and those that run Slackline itself.

Heavy parts are imported inside the commands that need them, so that `slackline submit` starts
fast and only a worker imports an engine.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from api.client.commands import app

keys_app = typer.Typer(help="API keys of a server.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

DataOption = Annotated[
    Path, typer.Option(help="Folder of the database, the logs and the state file.")
]
DatabaseUrl = Annotated[str, typer.Option(envvar="DATABASE_URL", help="Postgres of Slackline.")]
RedisUrl = Annotated[str, typer.Option(envvar="REDIS_URL", help="Redis of Slackline.")]


@app.command()
def up(
    data: DataOption = Path(".slackline"),
    engine: Annotated[
        list[str] | None, typer.Option(help="Engine of a worker: torch or replay; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Wanted port of the API.")] = 8000,
) -> None:
    """Run everything on this machine: Postgres, Redis, API, scheduler and workers.

    DATABASE_URL and REDIS_URL name servers of your own to use instead.
    """
    from rich.console import Console

    from infra.local import LocalOptions, run_local
    from infra.services import ENGINE_OPTIONS

    engines = tuple(engine or ["torch"])
    for kind in engines:
        if kind not in ENGINE_OPTIONS:
            known = ", ".join(ENGINE_OPTIONS)
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
def migrate(database_url: DatabaseUrl) -> None:
    """Bring the database to the schema of this version."""
    from db.migrate import upgrade

    upgrade(database_url)


def main() -> None:
    """Entry point of the installed command."""
    app()


if __name__ == "__main__":
    main()
