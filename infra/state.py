"""The state file and lock of one data folder: who runs here, where it listens, its secrets.

Theory of operation: the lock is an advisory `flock` held for the life of the supervisor, so it
cannot go stale. The state file says what runs; when it is there without a lock, its owner was
killed, and what it lists may still be alive.
"""

import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from infra.processes import identity

LOCK_FILE = "lock"
STATE_FILE = "slackline.json"

LOOK_S = 0.2
"""A supervisor holds the lock for longer; `is_locked` of another process only for a moment."""


class DataFolderBusyError(Exception):
    """Another Slackline runs on this data folder."""


@dataclass(frozen=True, slots=True)
class Running:
    """What one supervisor runs.

    Attributes:
        is_ready: Whether everything has started.
        children: Process id by child.
        created: Creation time of that process, which tells it from a later one of the same id.
    """

    pid: int
    api_url: str
    api_key: str
    database_url: str
    redis_url: str
    is_ready: bool = False
    children: dict[str, int] = field(default_factory=dict)
    created: dict[str, float] = field(default_factory=dict)


class DataFolder:
    """A data folder, locked while the context lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self._lock: IO[bytes] | None = None

    @property
    def log_dir(self) -> Path:
        """Where children write their logs."""
        return self.path / "logs"

    def __enter__(self) -> "DataFolder":
        """Create the folder and take its lock.

        Raises:
            DataFolderBusyError: Another supervisor holds it.
        """
        self.log_dir.mkdir(parents=True, exist_ok=True)
        lock = (self.path / LOCK_FILE).open("ab")
        give_up_at = time.monotonic() + LOOK_S
        while self._lock is None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    lock.close()
                    raise DataFolderBusyError(self._busy_message()) from None
                time.sleep(0.01)
            else:
                self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Forget what ran and release the lock."""
        (self.path / STATE_FILE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def is_locked(self) -> bool:
        """Whether a supervisor holds the lock at this moment."""
        try:
            with (self.path / LOCK_FILE).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read(self) -> Running | None:
        """What the state file says; None without one, or with one of another version."""
        try:
            return Running(**json.loads((self.path / STATE_FILE).read_text()))
        except (FileNotFoundError, TypeError):
            return None

    def write(self, running: Running) -> None:
        """Replace the state file at once; it holds secrets, so only its owner reads it."""
        target = self.path / STATE_FILE
        fresh = target.with_suffix(".json.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(running), file, indent=2)
        fresh.replace(target)

    def end_strays(self) -> list[str]:
        """Kill what outlived a killed supervisor, and forget it; returns names. Needs the lock."""
        running = self.read()
        ended = []
        for name, pid in (running.children if running else {}).items():
            if running and identity(pid) == running.created.get(name):
                # Postgres takes SIGINT as a fast, clean shutdown; the others are dead at once.
                stray = psutil.Process(pid)
                stray.send_signal(signal.SIGINT if name == "postgres" else signal.SIGKILL)
                stray.wait(timeout=30)
                ended.append(name)
        (self.path / STATE_FILE).unlink(missing_ok=True)
        return ended

    def _busy_message(self) -> str:
        running = self.read()
        where = f" (process {running.pid}, {running.api_url})" if running else ""
        return (
            f"Slackline already runs on {self.path}{where}. Stop it with "
            f"`slackline down --data {self.path}`, or choose another folder with --data."
        )
