"""The embedded default: a whole Slackline in one data folder, without Docker or root.

Theory of operation: `run_local` holds the folder's lock, starts children in three stages
(Postgres and Redis; migrations; API, scheduler and workers), keeps them alive, and stops them in
reverse. What runs is written to the state file, which `slackline down` and clients read.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from sqlalchemy.exc import OperationalError

from api.client.transport import DEFAULT_API_KEY, DEFAULT_URL
from db import migrate
from db.session import connect, session_factory
from infra.observed import metrics_environments
from infra.processes import ChildSpec, identity
from infra.servers import Postgres, Redis, free_port, is_port_free
from infra.services import api_child, scheduler_child, worker_child, worker_names
from infra.state import DataFolder, Running
from infra.supervisor import POLL_S, StackFailedError, Supervisor
from infra.terminal import Terminal

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

ANY_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Listening addresses that are no address to connect to, and the one to use from here."""

ALLOW_PRIVATE_WEBHOOKS = "SLACKLINE_WEBHOOKS__ALLOW_PRIVATE"

QUIET_CHILDREN = ("postgres", "redis")
"""Their logs stay in the files: they talk about themselves only."""


class NotStoppedError(Exception):
    """There is nothing to stop, or it does not stop."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What `slackline up` was asked for.

    Attributes:
        port: Wanted port of the API; another free one is taken when it is busy.
        database_url: The user's own Postgres instead of ours.
        redis_url: The user's own Redis instead of ours.
    """

    data: Path
    engines: tuple[str, ...] = ("torch",)
    host: str = "127.0.0.1"
    port: int = 8000
    database_url: str | None = None
    redis_url: str | None = None


class LocalStack:
    """One embedded Slackline while it runs."""

    def __init__(self, options: LocalOptions, folder: DataFolder, terminal: Terminal) -> None:
        self.options = options
        self._folder = folder
        self._terminal = terminal
        self._closing = ExitStack()
        self._supervisor = Supervisor(
            folder.log_dir, self._say, on_change=self._write_state, on_tick=self._follow_logs
        )
        for log_path in folder.log_dir.glob("*.log"):
            terminal.skip_to_end(log_path)
        self._running = Running(os.getpid(), "", "", "", "")
        self._supervisor.listen_for_signals()

    def run(self, on_ready: Callable[[Running], None]) -> None:
        """Start everything, keep it alive until a signal, stop it.

        Raises:
            StackFailedError: Something did not start, or keeps dying.
        """
        started_at = time.monotonic()
        try:
            if self._start():
                self._announce(time.monotonic() - started_at)
                on_ready(self._running)
                self._supervisor.run()
            self._say("up", "stopping")
        except StackFailedError as failure:
            self._say("up", str(failure))
            raise
        finally:
            self._supervisor.stop()
            self._closing.close()
            self._say("up", "stopped")

    def _start(self) -> bool:
        for name in self._folder.end_strays():
            self._say("up", f"ended {name}, which an earlier run left behind")
        database_url, redis_url, servers = self._servers()
        port = self._api_port()
        host = ANY_HOSTS.get(self.options.host, self.options.host)
        api_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._running = Running(os.getpid(), api_url, self._api_key(), database_url, redis_url)
        if not self._supervisor.start(servers):
            return False
        self._migrate()
        return self._supervisor.start(self._services(port))

    def _servers(self) -> tuple[str, str, list[ChildSpec]]:
        """URLs of Postgres and Redis, and those of the two that are ours to run."""
        children = []
        database_url = self.options.database_url
        if database_url is None:
            postgres = self._postgres()
            self._closing.callback(postgres.close)
            children.append(postgres.child())
            database_url = postgres.url
        redis_url = self.options.redis_url
        if redis_url is None:
            redis = Redis(self._folder.path / "redis", free_port())
            children.append(redis.child())
            redis_url = redis.url
        return database_url, redis_url, children

    def _postgres(self) -> Postgres:
        data_dir = self._folder.path / "postgres"
        verb = "using" if (data_dir / "PG_VERSION").exists() else "creating"
        self._say("up", f"{verb} data in {self._folder.path}")
        try:
            return Postgres(data_dir)
        except (OSError, subprocess.CalledProcessError) as error:
            raise StackFailedError(f"Postgres cannot keep data in {data_dir}: {error}") from error

    def _migrate(self) -> None:
        try:
            migrate.upgrade(self._running.database_url)
        except OperationalError as error:
            raise StackFailedError(f"The database does not answer: {error.orig}") from error
        self._say("up", "database is migrated")

    def _services(self, port: int) -> list[ChildSpec]:
        engine = connect(self._running.database_url, pool_size=1)
        self._closing.callback(engine.dispose)
        sessions = session_factory(engine)
        env = {
            "DATABASE_URL": self._running.database_url,
            "REDIS_URL": self._running.redis_url,
        }
        api_env = {**env, "SLACKLINE_LOCAL_KEY": self._running.api_key}
        if self.options.host in LOOPBACK_HOSTS:
            # Its users are on this machine, and so are their receivers.
            allow = os.environ.get(ALLOW_PRIVATE_WEBHOOKS, "true")
            api_env[ALLOW_PRIVATE_WEBHOOKS] = allow
        worker_env = {**env, "SLACKLINE_DATA_DIR": str(self._folder.path)}
        engines = self.options.engines
        names = worker_names(engines)
        metrics = metrics_environments(1 + len(names))
        return [
            api_child(self.options.host, port, self._running.api_url, api_env),
            scheduler_child(sessions, env | metrics[0]),
            *(
                worker_child(sessions, kind, name, worker_env | metrics_env)
                for kind, name, metrics_env in zip(engines, names, metrics[1:], strict=True)
            ),
        ]

    def _api_port(self) -> int:
        wanted = self.options.port
        if is_port_free(self.options.host, wanted):
            return wanted
        port = free_port()
        self._say("up", f"port {wanted} is taken, the API listens on {port}")
        return port

    def _api_key(self) -> str:
        """A known key on this machine only; a random, lasting one when others can connect."""
        if self.options.host in LOOPBACK_HOSTS:
            return DEFAULT_API_KEY
        path = self._folder.path / "api_key"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"sk-slk-{secrets.token_urlsafe(32)}")
        return path.read_text()

    def _follow_logs(self) -> None:
        for child in self._supervisor.children:
            if child.spec.name not in QUIET_CHILDREN:
                self._terminal.follow(child.spec.name, child.log_path)

    def _say(self, name: str, line: str) -> None:
        self._terminal.say(name, line)

    def _announce(self, start_time_s: float) -> None:
        running = self._running = replace(self._running, is_ready=True)
        self._write_state()
        self._say("up", f"ready after {start_time_s:.1f} s: {running.api_url}")
        self._say("up", f"API key {running.api_key}, data and logs in {self._folder.path}")
        if running.api_url != DEFAULT_URL or running.api_key != DEFAULT_API_KEY:
            key = f"SLACKLINE_API_KEY={running.api_key}"
            self._say("up", f"for clients: export SLACKLINE_URL={running.api_url} {key}")
        self._say("up", "stop with Ctrl-C or `slackline down`")

    def _write_state(self) -> None:
        pids = {child.spec.name: child.pid for child in self._supervisor.children}
        children = {name: pid for name, pid in pids.items() if pid is not None}
        created = {name: identity(pid) or 0.0 for name, pid in children.items()}
        self._folder.write(replace(self._running, children=children, created=created))


def run_local(
    options: LocalOptions, console: Console, on_ready: Callable[[Running], None] = lambda _: None
) -> None:
    """Run an embedded Slackline until it is stopped.

    Raises:
        DataFolderBusyError: Another one runs on the folder.
        StackFailedError: Something did not start, or keeps dying.
    """
    with DataFolder(options.data) as folder:
        LocalStack(options, folder, Terminal(console)).run(on_ready)


def stop_local(data: Path, timeout_s: float = 60.0) -> Path:
    """Stop the Slackline that runs on a data folder; returns the folder.

    Raises:
        NotStoppedError: Nothing runs there, or it does not stop.
    """
    folder = DataFolder(data)
    running = folder.read() if folder.is_locked() else None
    if running is None:
        raise NotStoppedError(f"Nothing runs on {folder.path}.")
    os.kill(running.pid, signal.SIGTERM)
    give_up_at = time.monotonic() + timeout_s
    while folder.is_locked():
        if time.monotonic() > give_up_at:
            raise NotStoppedError(f"Process {running.pid} did not stop within {timeout_s:.0f} s.")
        time.sleep(POLL_S)
    return folder.path
