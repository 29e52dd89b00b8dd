"""Streams of events: what is stored after the client's last one, then what is new.

Theory of operation: a stream holds no connection to the store. It reads stored events page by page,
each in a transaction of its own, and is told the new ones (`api.feed`). It ends with the last event
of its job, when its life is over, when the client leaves or does not read, and when the server
stops.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Response
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from api.feed import Feed
from api.followers import BEHIND, Follower, Told
from api.settings import ApiSettings
from db.events import list_events, list_tenant_events
from db.session import SessionFactory, transaction
from scheduler.core.event_kinds import ENDS

_PAGE = 500
_STORE_AWAY_S = 1.0
_SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is gone."""


class EventStream(Response):
    """Server-sent events of one job, or of all jobs of a tenant.

    Args:
        job_id: None for all jobs of the tenant.
        after: Id of the last event that the client has.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        feed: Feed,
        sessions: SessionFactory,
        settings: ApiSettings,
        *,
        tenant_id: str,
        job_id: str | None,
        after: int,
    ) -> None:
        super().__init__()
        self._feed = feed
        self._sessions = sessions
        self._settings = settings
        self._tenant_id = tenant_id
        self._job_id = job_id
        self._last = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end.

        Raises:
            ApiError: 429, before anything is sent.
        """
        follower = Follower(self._tenant_id, self._job_id)
        self._feed.join(follower)
        try:
            stream = EventSourceResponse(
                self._messages(follower),
                ping=self._settings.stream_heartbeat_s,
                ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
                send_timeout=_SEND_TIMEOUT_S,
                sep="\n",
            )
            await stream(scope, receive, send)
        except SendTimeoutError:
            return
        finally:
            self._feed.leave(follower)

    async def _messages(self, follower: Follower) -> AsyncIterator[ServerSentEvent]:
        """What to send: stored events in order and once, progress as it comes."""
        if self._job_id is None:
            # Where it begins: a client that leaves before the first event can resume, too.
            yield ServerSentEvent(id=str(self._last), sep="\n")
        async with aclosing(self._events(follower)) as events:
            async for event in events:
                if event.id is not None:
                    if event.id <= self._last:
                        continue
                    self._last = event.id
                # Progress has no id, so that the client goes on behind the last stored event.
                number = None if event.id is None else str(event.id)
                yield ServerSentEvent(data=event.text, event=event.kind, id=number, sep="\n")
                if self._job_id is not None and event.kind in ENDS:
                    return

    async def _events(self, follower: Follower) -> AsyncGenerator[Told, None]:
        """What is stored and what the feed tells, some of it twice."""
        loop = asyncio.get_running_loop()
        over_at_s = loop.time() + self._settings.max_stream_s
        while True:
            try:
                told = await follower.next(over_at_s - loop.time())
            except TimeoutError:
                return
            if told is not BEHIND:
                yield told
                continue
            while page := await self._next_page():
                for event in page:
                    yield event

    async def _next_page(self) -> list[Told]:
        """Stored events behind the last one; waits for a store that is away, as the feed does."""
        while True:
            try:
                return await run_in_threadpool(self._page, self._last)
            except (OperationalError, PoolTimeoutError):
                await asyncio.sleep(_STORE_AWAY_S)

    def _page(self, after: int) -> list[Told]:
        with transaction(self._sessions) as session:
            if self._job_id is None:
                found = list_tenant_events(session, self._tenant_id, after=after, limit=_PAGE)
            else:
                found = list_events(session, self._job_id, after=after, limit=_PAGE)
            return [Told.of(event) for event in found]
