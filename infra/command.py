"""The `slackline` command: the client's commands, and those that run Slackline itself.

Heavy parts are imported inside the commands that need them, so that `slackline submit` starts
fast and only a worker imports an engine.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.client.commands import app
from api.client.errors import SlacklineError
from api.client.screen import ExitCode, Screen
from infra import key_commands, server_commands, tenant_commands, worker_commands

if TYPE_CHECKING:
    from infra.simulated.load import Loaded
    from infra.state import Running

server_commands.add_to(app)
worker_commands.add_to(app)
app.add_typer(key_commands.app, name="keys")
app.add_typer(tenant_commands.app, name="tenants")

__all__ = ["app", "main"]

DataOption = Annotated[
    Path, typer.Option(help="Folder of the database, the logs and the state file.")
]


@app.command()
def up(
    screen: Screen,
    data: DataOption = Path(".slackline"),
    engine: Annotated[
        list[str] | None,
        typer.Option(help="torch, vllm, openai or replay, for each worker one."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Wanted port of the API.")] = 8000,
) -> None:
    """Run everything on this machine: Postgres, Redis, API, scheduler and workers.

    DATABASE_URL and REDIS_URL name servers of your own to use instead. With --json nothing is
    shown but one object, when everything is ready.
    """
    from rich.console import Console

    from infra.demo_engines import DEMO_SETTINGS
    from infra.local import LocalOptions, run_local
    from infra.state import DataFolderBusyError
    from infra.supervisor import StackFailedError

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

    def on_ready(running: "Running") -> None:
        if screen.as_json:
            screen.write(
                {"api_url": running.api_url, "api_key": running.api_key, "pid": running.pid}
            )

    try:
        run_local(options, Console(quiet=screen.as_json), on_ready)
    except (DataFolderBusyError, StackFailedError) as error:
        raise _not_started(error) from None


@app.command()
def down(screen: Screen, data: DataOption = Path(".slackline")) -> None:
    """Stop the Slackline that `up` runs on a data folder."""
    from infra.local import NotStoppedError, stop_local

    try:
        folder = stop_local(data)
    except NotStoppedError as error:
        raise SlacklineError(str(error), code="not_stopped") from None
    screen.show({"stopped": str(folder)}, lambda _: f"Stopped the Slackline on {folder}.")


@app.command()
def demo(
    screen: Screen,
    data: Annotated[
        Path | None, typer.Option(help="Folder to keep; a temporary one by default.")
    ] = None,
    problems: Annotated[
        int | None, typer.Option(min=1, help="Submit only so many problems per job.")
    ] = None,
) -> None:
    """Run two jobs through everything on this machine and show what came out."""
    from rich.console import Console

    from infra.demo import DemoError, is_well, run_demo

    console = Console(quiet=screen.as_json, highlight=False)
    try:
        summaries = run_demo(data, problems, console)
    except DemoError as error:
        console.print(str(error), style="red", soft_wrap=True)
        raise _not_started(error) from None
    # Whoever runs it: the last line is for programs.
    screen.write({"jobs": summaries})
    if not all(map(is_well, summaries)):
        raise typer.Exit(ExitCode.MISSED_DEADLINE)


@app.command()
def demo_history(
    screen: Screen,
    data: DataOption = Path(".slackline"),
    days: Annotated[
        float, typer.Option(min=1.0, max=366.0, help="How many days up to now.")
    ] = 30.0,
) -> None:
    """Simulate a history to look at on the page, and store it for tenants of its own.

    The scheduler's own code decides, recorded solutions and modeled times stand in for engines.
    Every tenant, model, job and worker of it says that it is simulated. It goes into the Slackline
    that `up` runs on a data folder, or into DATABASE_URL.
    """
    from datetime import UTC, datetime

    from db.session import connect, session_factory
    from infra.simulated.load import load
    from infra.state import DataFolder

    running = DataFolder(data).read()
    url = os.environ.get("DATABASE_URL") or (running.database_url if running else None)
    if not url:
        raise SlacklineError(
            f"Nothing runs on {data}. Start `slackline up` there, or set DATABASE_URL.",
            code="not_started",
        )
    engine = connect(url, pool_size=1)
    try:
        loaded = load(session_factory(engine), days=days, now=datetime.now(UTC))
    finally:
        engine.dispose()
    screen.show(asdict(loaded), lambda _: _loaded_words(loaded))


def _loaded_words(loaded: "Loaded") -> str:
    parties = "\n".join(f"  {party.name}: {party.api_key}" for party in loaded.parties)
    return (
        f"Stored {loaded.num_jobs:,} simulated jobs with {loaded.num_problems:,} problems and"
        f" {loaded.num_branches:,} branches, and {loaded.num_refusals:,} refusals.\n"
        "Give the page one of these API keys (top right) to see them:\n"
        f"{parties}"
    )


def _not_started(error: Exception) -> SlacklineError:
    """The first line of the error; the last lines of a log stand below it."""
    reason = str(error).partition("\n")[0].rstrip(":")
    return SlacklineError(reason, code="not_started")


def main() -> None:
    """Entry point of the installed command."""
    app(prog_name="slackline")


if __name__ == "__main__":
    main()
