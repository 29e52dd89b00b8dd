"""The messages of one batch, from all who work for it."""

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TypeAlias, cast

from worker.engines.base import BranchFinished
from worker.marking import Compared
from worker.voting import Verdict

Message: TypeAlias = BranchFinished | Verdict | Compared


class Inbox:
    """Filled by the engine and the grading pool; emptied by the batch's thread."""

    def __init__(self) -> None:
        self._messages: SimpleQueue[Message] = SimpleQueue()

    @property
    def events(self) -> SimpleQueue[BranchFinished]:
        """Where the engine puts its events; it never sees what else is in there."""
        return cast("SimpleQueue[BranchFinished]", self._messages)

    def put(self, message: Verdict | Compared) -> None:
        """Take a finding of the grading pool."""
        self._messages.put(message)

    def take(self, wait_s: float) -> Iterator[Message]:
        """The messages at hand, after waiting for the first one.

        No more than are there then, so that a flood cannot keep the batch from its deadline.
        """
        try:
            yield self._messages.get(timeout=max(wait_s, 0.0))
            for _ in range(self._messages.qsize()):
                yield self._messages.get_nowait()
        except Empty:
            return
