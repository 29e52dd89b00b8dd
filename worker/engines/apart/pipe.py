"""What goes over the pipe between a worker and the process of its engine, and how."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from worker.engines.base import BranchFinished

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


class Sender:
    """Sends messages of several threads, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: object, limit_s: float | None = None) -> None:
        """Send a message; one that nobody can get any more is dropped.

        Args:
            limit_s: It is dropped, too, if another one is still on its way after so long.
        """
        if not self._lock.acquire(timeout=-1 if limit_s is None else limit_s):
            return
        try:
            with suppress(OSError):
                self._connection.send(message)
        finally:
            self._lock.release()
