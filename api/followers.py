"""One open stream, as the feed sees it: what it was told and has not sent yet."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from api.schemas.events import EventOut
from db.models import JobEvent

_MAX_WAITING = 2000
"""Events that wait for a slow client, some hundred bytes each, before it reads them by itself."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event on its way to streams, written out once for all of them.

    Attributes:
        id: None for progress, which is not stored.
        state: What makes progress news; None for a stored event.
    """

    id: int | None
    tenant_id: str
    job_id: str
    kind: str
    text: str = field(repr=False)
    state: Hashable = None

    @classmethod
    def of(cls, event: JobEvent) -> "Told":
        """A stored event."""
        shown = EventOut.model_validate(event, from_attributes=True)
        return cls(event.id, event.tenant_id, event.job_id, event.kind, shown.model_dump_json())


BEHIND: Final = Told(None, "", "", "", "")
"""There are stored events to be read; what comes after this is new."""


class Follower:
    """A stream's queue. Told by the feed's thread, emptied by the event loop that made it.

    Args:
        job_id: None for all jobs of the tenant.
    """

    def __init__(self, tenant_id: str, job_id: str | None) -> None:
        self.tenant_id = tenant_id
        self.job_id = job_id
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Told] = asyncio.Queue()
        self._last_progress: dict[str, Hashable] = {}

    def is_for(self, told: Told) -> bool:
        """Whether it is an event of what this stream follows."""
        if self.job_id is not None:
            return told.job_id == self.job_id
        return told.tenant_id == self.tenant_id

    def tell(self, told: Sequence[Told]) -> None:
        """Queue events, in order."""
        if told:
            try:
                self._loop.call_soon_threadsafe(self._put, told)
            except RuntimeError:
                # The loop is closed: the server has stopped, and the stream with it.
                return

    def tell_progress(self, told: Sequence[Told]) -> None:
        """Queue what has changed since the last time."""
        changed = [each for each in told if self._last_progress.get(each.job_id) != each.state]
        self._last_progress = {each.job_id: each.state for each in told}
        self.tell(changed)

    async def next(self, timeout_s: float) -> Told:
        """The next event.

        Raises:
            TimeoutError: None came in time.
        """
        return await asyncio.wait_for(self._waiting.get(), timeout_s)

    def _put(self, told: Sequence[Told]) -> None:
        if self._waiting.qsize() + len(told) > _MAX_WAITING:
            while not self._waiting.empty():
                self._waiting.get_nowait()
            told = [BEHIND]
        for each in told:
            self._waiting.put_nowait(each)
