"""Lets a few requests at a time wait for the admission, so that all others find a free connection.

Theory of operation: who waits for the admission holds a thread and a connection to the store.
Without a bound, a burst of submissions would take all of them, and reads would wait behind it until
the pool gives up. Here a request waits on the event loop, with its body on disk.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import structlog
from fastapi import Depends, Request

from api.auth import Caller
from api.dependencies import Settings, utc_now
from api.errors import server_busy

_log = structlog.get_logger(__name__)


async def _turn(
    request: Request, settings: Settings, _authenticated: Caller
) -> AsyncIterator[datetime]:
    """Wait for a turn, which lasts to the end of the request.

    Yields:
        When the request had arrived.

    Raises:
        ApiError: 503, too many others were before it for too long.
    """
    received_at = utc_now()
    turns: asyncio.Semaphore = request.app.state.turns
    try:
        async with asyncio.timeout(settings.max_turn_wait_s):
            await turns.acquire()
    except TimeoutError:
        _log.warning("request.not_served", path=request.url.path, code="server_busy")
        raise server_busy("Too many submissions are being stored at this moment.") from None
    try:
        yield received_at
    finally:
        turns.release()


Turn = Annotated[datetime, Depends(_turn)]
"""When the request had arrived whole; put it behind the body. It goes on in its turn."""
