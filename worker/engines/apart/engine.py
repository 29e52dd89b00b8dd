"""An engine whose steps do not wait for the worker's Python.

Theory of operation: batches, the heartbeat and the store take a tenth of the interpreter's time in
a busy worker, and an engine that calls small operators from the same interpreter waits for its
lock at each of them. So the engine is loaded in a child process; calls go there over a pipe, and a
thread here passes on what comes back. Events find their queue by the id of the branch.

When the child dies its branches are held until they are aborted, because an error would fail
their problems; the worker is to be replaced.
"""

import atexit
import itertools
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import structlog

from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from worker.engines.apart.child import Build, serve, unstarted
from worker.engines.apart.pipe import CLOSE, Answer, Call, LogLine, Message, Sender
from worker.engines.base import BranchFinished, BranchRequest, FinishReason

_CLOSE_LIMIT_S = 5.0
"""What runs ends within a step; a child that takes longer is killed."""

_TOTALS_LIMIT_S = 2.0
"""The heartbeat asks for them, and must not wait for an engine that is stuck."""

_log = structlog.get_logger(__name__)


class EngineDiedError(RuntimeError):
    """The process of the engine has ended."""


class EngineApart:
    """Decodes branches in a child process; see `worker.engines.base.Engine`."""

    def __init__(self, build: Build, *, on_death: Callable[[str], None] | None = None) -> None:
        """Starts the child and waits until its engine is loaded.

        Args:
            build: Loads the engine; what it raises is raised here.
            on_death: Called once, with the reason, when the child died.

        Raises:
            EngineDiedError: The child ended while it loaded the engine.
        """
        self._on_death = on_death
        self._lock = threading.Lock()
        self._held: dict[str, tuple[datetime, SimpleQueue[BranchFinished]]] = {}
        self._unwanted: set[str] = set()
        self._asked: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._is_closed = False
        self._is_dead = False
        self._totals = EngineTotals()
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._sender = Sender(self._connection)
        self._process = context.Process(
            target=serve, args=(far_end, build), name="engine", daemon=True
        )
        self._process.start()
        # At the exit of a worker that did not close it: Python waits for its children then, and
        # this one takes no other hint.
        atexit.register(self._process.kill)
        far_end.close()
        loaded = self._receive_first()
        if isinstance(loaded, Exception):
            self._process.join()
            raise loaded
        self._spec: EngineSpec = loaded
        self._reader = threading.Thread(target=self._read, name="engine-events", daemon=True)
        self._reader.start()

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._spec

    @property
    def pid(self) -> int | None:
        """Of the child."""
        return self._process.pid

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        """Queues branches; their events arrive on `events`."""
        now, fresh = datetime.now(UTC), []
        with self._lock:
            for request in requests:
                branch_id = request.branch_id
                if self._is_closed:
                    why = "the engine is closed; submit to another one"
                elif branch_id in self._held:
                    why = f"branch {branch_id} is already here; give each branch its own id"
                else:
                    self._held[branch_id] = now, events
                    fresh.append(request)
                    continue
                events.put(unstarted(branch_id, now, FinishReason.ERROR, why))
        if fresh:
            self._tell("submit", requests=fresh)

    def totals(self) -> EngineTotals:
        """What was decoded since the start; of an engine that has ended, what it told last."""
        with suppress(EngineDiedError, TimeoutError):
            self._totals = self._ask("totals", limit_s=_TOTALS_LIMIT_S)
        return self._totals

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """Ends branches within one step; ids that are unknown or finished are ignored."""
        with self._lock:
            held = self._held.keys() & set(branch_ids)
            if not only_waiting:
                self._unwanted |= held
        if not held:
            return
        self._tell("abort", branch_ids=tuple(held), only_waiting=only_waiting)
        if self._is_dead:
            self._give_up(held)

    def close(self) -> None:
        """Aborts what runs and ends the child. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._sender.send(Call(None, CLOSE, {}), _CLOSE_LIMIT_S)
        self._process.join(_CLOSE_LIMIT_S)
        self._process.kill()
        atexit.unregister(self._process.kill)
        self._reader.join()
        self._process.join()
        self._give_up(tuple(self._held))

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int = 20
    ) -> tuple[float, ...]:
        """Times decode steps on an idle engine, in seconds; context is the total over rows.

        Raises:
            ValueError: The engine cannot run such a step.
            RuntimeError: The engine is closed or serves branches.
        """
        seconds: tuple[float, ...] = self._ask(
            "measure_step",
            rows=rows,
            num_speculative_tokens=num_speculative_tokens,
            context_tokens=context_tokens,
            repeats=repeats,
        )
        return seconds

    def measure_prefill(self, *, prompt_tokens: int, repeats: int = 5) -> tuple[float, ...]:
        """Times prefills of one prompt on an idle engine, in seconds."""
        seconds: tuple[float, ...] = self._ask(
            "measure_prefill", prompt_tokens=prompt_tokens, repeats=repeats
        )
        return seconds

    def _receive_first(self) -> Any:
        try:
            while isinstance(first := self._connection.recv(), LogLine):
                self._pass_on(first)
            return first
        except EOFError:
            self._process.join()
            return EngineDiedError(self._reason())

    def _tell(self, method: str, **arguments: Any) -> None:
        self._sender.send(Call(None, method, arguments))

    def _ask(self, method: str, *, limit_s: float | None = None, **arguments: Any) -> Any:
        number, future = next(self._numbers), Future[Any]()
        with self._lock:
            if self._is_dead or self._is_closed:
                raise EngineDiedError("the engine is closed")
            self._asked[number] = future
        self._sender.send(Call(number, method, arguments), limit_s)
        return future.result(limit_s)

    def _read(self) -> None:
        try:
            while True:
                self._pass_on(self._connection.recv())
        except (EOFError, OSError):
            self._end()
        except Exception:
            # What it says is not understood: nobody would hear of its branches any more.
            _log.exception("engine.unreadable")
            self._process.kill()
            self._end()

    def _pass_on(self, message: Message) -> None:
        if isinstance(message, LogLine):
            getattr(_log, message.level)(**message.fields)
        elif isinstance(message, Answer):
            with self._lock:
                future = self._asked.pop(message.number)
            if isinstance(message.value, Exception):
                future.set_exception(message.value)
            else:
                future.set_result(message.value)
        else:
            with self._lock:
                _, events = self._held.pop(message.branch_id)
                self._unwanted.discard(message.branch_id)
            events.put(message)

    def _end(self) -> None:
        self._process.join()
        with self._lock:
            self._is_dead = True
            asked, self._asked = self._asked, {}
            unwanted, is_closed = tuple(self._unwanted), self._is_closed
        reason = self._reason()
        for future in asked.values():
            future.set_exception(EngineDiedError(reason))
        if is_closed:
            return
        _log.error("engine.died", reason=reason)
        if self._on_death is not None:
            self._on_death(reason)
        self._give_up(unwanted)

    def _give_up(self, branch_ids: Iterable[str]) -> None:
        """Send the events of branches of which the child will tell nothing."""
        for branch_id in branch_ids:
            with self._lock:
                held = self._held.pop(branch_id, None)
            if held is not None:
                queued_at, events = held
                events.put(unstarted(branch_id, queued_at, FinishReason.ABORT))

    def _reason(self) -> str:
        return f"its process ended with exit status {self._process.exitcode}"
