"""Commands of Slackline's own processes, as the local supervisor and containers run them."""

import signal
import sys
from typing import Annotated

import typer

from api.client.app import App
from api.client.errors import SlacklineError
from api.client.screen import Screen

DatabaseUrl = Annotated[str, typer.Option(envvar="DATABASE_URL", help="Postgres of Slackline.")]
RedisUrl = Annotated[str, typer.Option(envvar="REDIS_URL", help="Redis of Slackline.")]
WorkerName = Annotated[str, typer.Option(help="Name of the worker, and of its queue.")]

API_DRAIN_LIMIT_S = 3
"""A stop waits so long for requests in progress, an upload that stalls say; whoever stops an API
kills it after 15 s (`services.API_GRACE_S`)."""

health_app = App(help="Exit code 0 when a process works, else 1.")


def add_to(app: App) -> None:
    """Add these commands to the `slackline` command."""
    for command in (migrate, api, scheduler):
        app.command()(command)
    app.add_typer(health_app, name="health")


def migrate(screen: Screen, database_url: DatabaseUrl) -> None:
    """Bring the database to the schema of this version."""
    from db.migrate import current, upgrade

    upgrade(database_url)
    screen.show({"revision": current(database_url)}, lambda it: f"schema {it['revision']}")


def api(
    database_url: DatabaseUrl,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serve the HTTP API. SLACKLINE_* in the environment set its limits."""
    import uvicorn

    from api.app import create_app
    from api.settings import ApiSettings
    from infra.observed import observed
    from infra.wrong_settings import naming_wrong_settings

    with naming_wrong_settings():
        settings = ApiSettings(database_url=database_url)
    # uvicorn sends itself the signal again when it has stopped, which would end us unflushed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with observed("api", serves_metrics=False):
        # Requests are counted in /metrics; a line for each would bury the rest of the log.
        uvicorn.run(
            create_app(settings),
            host=host,
            port=port,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=API_DRAIN_LIMIT_S,
        )


def scheduler(database_url: DatabaseUrl, redis_url: RedisUrl) -> None:
    """Decide and dispatch. Of several schedulers one leads, the others stand by."""
    from infra.observed import observed
    from infra.wrong_settings import naming_wrong_settings
    from scheduler.config import SchedulerSettings
    from scheduler.loop import run

    with naming_wrong_settings():
        settings = SchedulerSettings(database_url=database_url, redis_url=redis_url)
    with observed("scheduler"):
        run(settings)


@health_app.command("api")
def api_health(
    screen: Screen,
    url: Annotated[str, typer.Option(help="Address of the API.")] = "http://127.0.0.1:8000",
) -> None:
    """Whether the API can serve."""
    from infra.readiness import api_is_ready

    _tell(screen, api_is_ready(url), f"The API at {url} cannot serve.")


@health_app.command("scheduler")
def scheduler_health(screen: Screen, database_url: DatabaseUrl) -> None:
    """Whether a scheduler leads."""
    from db.session import connect, session_factory
    from infra.readiness import scheduler_leads

    sessions = session_factory(connect(database_url, pool_size=1))
    _tell(screen, scheduler_leads(sessions), "No scheduler leads.")


@health_app.command("worker")
def worker_health(screen: Screen, database_url: DatabaseUrl, name: WorkerName) -> None:
    """Whether the worker is registered and its heart beats."""
    from db.session import connect, session_factory
    from infra.readiness import worker_is_ready

    sessions = session_factory(connect(database_url, pool_size=1))
    _tell(screen, worker_is_ready(sessions, name), f"The worker {name} shows no sign of life.")


def _tell(screen: Screen, is_healthy: bool, trouble: str) -> None:
    if not is_healthy:
        raise SlacklineError(trouble, code="unhealthy")
    screen.show({"healthy": True}, lambda _: "healthy")
