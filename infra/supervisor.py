"""Keeps children alive: starts them in stages, restarts the dead, stops all in reverse order.

Theory of operation: one thread does everything in a loop (`run` calls `tick`), because a child
bound to its parent dies with the *thread* that started it. A child that exits before it was ever
ready is misconfigured, and one that keeps dying is hopeless: both end the whole run, so that
nobody waits for a deadline on half a system.
"""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.processes import Child, ChildSpec, end_session
from infra.restarts import RestartPolicy

POLL_S = 0.05
"""Pause between two looks at the children."""


class StackFailedError(Exception):
    """A child cannot be kept alive; the message says which and why, then its last lines."""


class Supervisor:
    """Holds the children of one stack, in start order."""

    def __init__(
        self,
        log_dir: Path,
        say: Callable[[str, str], None],
        policy: RestartPolicy | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty supervisor.

        Args:
            say: Called with (child name, line) for what the terminal should show.
            on_change: Called after any child's pid changed.
            on_tick: Called after every look at the children.
        """
        self._stages: list[list[Child]] = []
        self._log_dir = log_dir
        self._say = say
        self._policy = policy or RestartPolicy()
        self._on_change = on_change
        self._on_tick = on_tick
        self._restart_at: dict[str, float] = {}
        self._stop_requested = False

    @property
    def children(self) -> list[Child]:
        """Every child, in start order."""
        return [child for stage in self._stages for child in stage]

    def request_stop(self) -> None:
        """Make `start` and `run` leave at the next look; safe in a signal handler."""
        self._stop_requested = True

    def listen_for_signals(self) -> None:
        """Ctrl-C and SIGTERM request a stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.request_stop())

    def start(self, specs: Sequence[ChildSpec]) -> bool:
        """Start these together; True when all are ready, False when a stop was requested first.

        Raises:
            StackFailedError: One exited or did not get ready in time.
        """
        stage: list[Child] = []
        self._stages.append(stage)
        for spec in specs:
            stage.append(Child(spec, self._log_dir / f"{spec.name}.log"))
            self._start(stage[-1])
        while not self._stop_requested and not all(child.is_ready for child in stage):
            self.tick()
            time.sleep(POLL_S)
        return not self._stop_requested

    def run(self) -> None:
        """Keep the children alive until a stop is requested.

        Raises:
            StackFailedError: One keeps dying.
        """
        while not self._stop_requested:
            self.tick()
            time.sleep(POLL_S)

    def tick(self) -> None:
        """Look at every child once.

        Raises:
            StackFailedError: One cannot be kept alive.
        """
        for child in self.children:
            self._look_at(child)
        self._on_tick()

    def stop(self) -> None:
        """Stop stage by stage, the last one first, so that nobody loses a server it still needs."""
        for stage in reversed(self._stages):
            for child in stage:
                child.ask_to_stop()
            for child in stage:
                child.stop()

    def _start(self, child: Child) -> None:
        child.start()
        self._on_change()

    def _look_at(self, child: Child) -> None:
        now = time.monotonic()
        name = child.spec.name
        if name in self._restart_at:
            if now >= self._restart_at[name]:
                del self._restart_at[name]
                self._start(child)
            return
        if child.returncode is not None:
            self._handle_death(child, now)
        elif not child.is_ready:
            if child.check_ready():
                self._say(name, f"ready after {now - child.started_at:.1f} s")
            elif now - child.started_at > child.spec.ready_timeout_s:
                raise StackFailedError(self._story(child, "did not get ready in time"))

    def _handle_death(self, child: Child, now: float) -> None:
        cause = describe_exit(child.returncode)
        if child.pid is not None:
            end_session(child.pid)
        child.deaths.append(now)
        if not child.was_ready:
            raise StackFailedError(self._story(child, f"{cause} during its first start"))
        delay_s = self._policy.restart_delay_s(child.deaths, now)
        if delay_s is None:
            num_deaths = len(self._policy.recent(child.deaths, now))
            window = f"{num_deaths} times within {self._policy.window_s:.0f} s"
            raise StackFailedError(self._story(child, f"{cause}, {window}"))
        self._say(child.spec.name, f"{cause}; restarting in {delay_s:.1f} s")
        self._restart_at[child.spec.name] = now + delay_s

    def _story(self, child: Child, what: str) -> str:
        tail = child.log_tail() or "(empty)"
        return f"{child.spec.name} {what}, says {child.log_path}:\n{tail}"


def describe_exit(returncode: int | None) -> str:
    """An exit status in words."""
    if returncode is not None and returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"exited with code {returncode}"
