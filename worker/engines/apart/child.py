"""The process that holds the engine: takes calls from a pipe, sends events, answers and log lines.

It ends when it is told to, or when the pipe does because the worker is gone.
"""

import logging
import pickle
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TypeAlias

import structlog
from structlog.typing import EventDict, WrappedLogger

from worker.calibrate import MeasurableEngine
from worker.engines.apart.pipe import CLOSE, Answer, Call, LogLine, Sender
from worker.engines.base import BranchFinished, BranchMetrics, FinishReason

Build: TypeAlias = Callable[[], MeasurableEngine]
"""Loads the engine. Sent to the child, so it is a function of a module, or a `partial` of one."""

_log = structlog.get_logger(__name__)


class _Events(SimpleQueue[BranchFinished]):
    """Sends what is put into it."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def put(self, item: BranchFinished, *_when: object) -> None:
        """Send an event."""
        self._sender.send(item)


def serve(connection: Connection, build: Build) -> None:
    """Load the engine, send its spec or what loading raised, and serve calls until the end."""
    # They reach the whole group of processes; the worker closes the engine in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sender = Sender(connection)
    _log_to(sender)
    try:
        engine = build()
    except Exception as error:
        sender.send(portable(error))
        return
    sender.send(engine.spec)
    try:
        _serve_calls(connection, engine, sender)
    except (EOFError, OSError):
        return
    finally:
        engine.close()


def _serve_calls(connection: Connection, engine: MeasurableEngine, sender: Sender) -> None:
    events = _Events(sender)
    while True:
        call: Call = connection.recv()
        if call.method == CLOSE:
            return
        arguments = call.arguments | ({"events": events} if call.method == "submit" else {})
        try:
            value = getattr(engine, call.method)(**arguments)
        except Exception as error:
            value = portable(error)
            if call.number is None:
                _log.exception("engine.call_failed", method=call.method)
            for request in call.arguments.get("requests", ()):
                events.put(
                    unstarted(request.branch_id, datetime.now(UTC), FinishReason.ERROR, str(value))
                )
        if call.number is not None:
            sender.send(Answer(call.number, value))


def portable(error: Exception) -> Exception:
    """The error, or what it says where it would not be read as the same one."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def unstarted(
    branch_id: str, queued_at: datetime, reason: FinishReason, error: str | None = None
) -> BranchFinished:
    """The event of a branch that never decoded."""
    now = max(queued_at, datetime.now(UTC))
    metrics = BranchMetrics(queued_at, None, None, now, 0, 0, 0, (), ())
    return BranchFinished(branch_id, "", reason, metrics, error)


def _log_to(sender: Sender) -> None:
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
