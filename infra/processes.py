"""One supervised child process: start, output to a log file, stop within a grace period."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how to tell that it works.

    Attributes:
        argv: Absolute program first.
        env: Added to the supervisor's environment.
        is_ready: Asked every 0.1 s or so after a start, until it says yes; must not raise.
        ready_timeout_s: How long a start may take.
        stop_signal: Asks for a clean stop.
        death_signal: Sent by the kernel when the supervisor is gone.
        grace_s: Time between `stop_signal` and SIGKILL.
        user: Runs as this user when the supervisor is root.
    """

    name: str
    argv: tuple[str, ...]
    is_ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 8.0
    user: str | None = None


class Child:
    """One run after the other of a spec. Durations are in seconds, instants monotonic."""

    def __init__(self, spec: ChildSpec, log_path: Path) -> None:
        self.spec = spec
        self.log_path = log_path
        self.deaths: list[float] = []
        self.started_at = 0.0
        self.was_ready = False
        self.is_ready = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the present run, None when it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status of the present run, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the program in a session of its own, so that Ctrl-C reaches the supervisor only."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                bound(self.spec.argv, self.spec.death_signal, self.spec.user),
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.spec.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()
        self.is_ready = False

    def check_ready(self) -> bool:
        """Ask whether the present run works; remembers the first yes."""
        if not self.is_ready and self.returncode is None and self.spec.is_ready():
            self.is_ready = True
            self.was_ready = True
        return self.is_ready

    def ask_to_stop(self) -> None:
        """Send the stop signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.spec.stop_signal)

    def stop(self) -> None:
        """Send the stop signal, and SIGKILL to what is left of its session after the grace."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(timeout=self.spec.grace_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end_session(self._process.pid)
            self._process.wait()

    def log_tail(self, num_lines: int = 20) -> str:
        """Last lines of its log."""
        with self.log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 65536))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-num_lines:])


def bound(argv: Sequence[str], death_signal: signal.Signals, user: str | None = None) -> list[str]:
    """A command line under which a program dies with this process, killed or not.

    Args:
        death_signal: Sent by the kernel when the thread that starts the program is gone.
        user: Run the program as this user, when this process is root's.
    """
    binding = [sys.executable, "-m", "infra.bound", "--parent", str(os.getpid())]
    binding += ["--signal", str(int(death_signal))]
    if user is not None:
        binding += ["--user", user]
    return [*binding, "--", *argv]


def end_session(leader_pid: int) -> None:
    """Kill every process of the session that this pid leads, pool workers included."""
    followers = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader_pid:
                process.kill()
                if process.pid != leader_pid:
                    followers.append(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    # The leader is left to its `Popen`, which would lose its exit status.
    psutil.wait_procs(followers, timeout=5.0)


def identity(pid: int) -> float | None:
    """Creation time of the process behind a pid, so that a reused pid is not taken for it."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
