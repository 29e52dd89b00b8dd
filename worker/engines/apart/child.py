"""The process that holds the engine: takes calls from a pipe, sends events, answers and log lines.

It ends when it is told to, or when the pipe does because the worker is gone.
"""

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, TypeAlias

import structlog
from structlog.typing import EventDict, WrappedLogger

from worker.calibrate import MeasurableEngine
from worker.engines.base import BranchFinished

Build: TypeAlias = Callable[[], MeasurableEngine]
"""Loads the engine. Sent to the child, so it is a function of a module, or a `partial` of one."""

CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Call:
    """A method of the engine to call. `number`: names the answer; None when nobody waits for it."""

    number: int | None
    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned or raised."""

    number: int
    value: Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the worker's log; `fields` has the event too."""

    level: str
    fields: dict[str, Any]


Message: TypeAlias = BranchFinished | Answer | LogLine


class _Sender:
    """Sends messages of several threads, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Send a message; one that nobody can get any more is dropped."""
        with self._lock, suppress(OSError):
            self._connection.send(message)


class _Events(SimpleQueue[BranchFinished]):
    """Sends what is put into it."""

    def __init__(self, sender: _Sender) -> None:
        super().__init__()
        self._sender = sender

    def put(self, item: BranchFinished, *_when: object) -> None:
        """Send an event."""
        self._sender.send(item)


def serve(connection: Connection, build: Build) -> None:
    """Load the engine, send its spec or what loading raised, and serve calls until the end."""
    # Ctrl-C reaches the whole group of processes; the worker closes the engine in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sender = _Sender(connection)
    _log_to(sender)
    try:
        engine = build()
    except Exception as error:
        sender.send(error)
        return
    sender.send(engine.spec)
    try:
        _serve_calls(connection, engine, sender)
    except (EOFError, OSError):
        return
    finally:
        engine.close()


def _serve_calls(connection: Connection, engine: MeasurableEngine, sender: _Sender) -> None:
    events = _Events(sender)
    while True:
        call: Call = connection.recv()
        if call.method == CLOSE:
            return
        arguments = call.arguments | ({"events": events} if call.method == "submit" else {})
        try:
            value = getattr(engine, call.method)(**arguments)
        except Exception as error:
            value = error
        if call.number is not None:
            sender.send(Answer(call.number, value))


def _log_to(sender: _Sender) -> None:
    def send(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        sender.send(LogLine(event.pop("level"), dict(event)))
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            send,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
