"""Makes the tables that verdicts rest on before the first request waits for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.dependencies import utc_now
from db.session import SessionFactory, transaction
from db.snapshot import read_workers
from db.workers import incarnations
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import alive_workers
from scheduler.core.rehearsal import rehearse

_log = structlog.get_logger(__name__)

_INTERVAL_S = 2.0
"""Bounds how late a worker that joins is noticed."""


@asynccontextmanager
async def rehearsing(sessions: SessionFactory, config: SchedulerConfig) -> AsyncIterator[None]:
    """Rehearse for workers that join, until the end of the block."""
    task = asyncio.create_task(_rehearse(sessions, config))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _rehearse(sessions: SessionFactory, config: SchedulerConfig) -> None:
    known: frozenset[str] = frozenset()
    while True:
        try:
            known = await asyncio.to_thread(_look, sessions, config, known)
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            _log.warning("store.away", waiting="rehearsal", error=str(error))
        except Exception:
            _log.exception("rehearsal.failed")
        await asyncio.sleep(_INTERVAL_S)


def _look(
    sessions: SessionFactory, config: SchedulerConfig, known: frozenset[str]
) -> frozenset[str]:
    """The workers rehearsed for; profiles are read only where there is another one."""
    now = utc_now()
    with transaction(sessions) as session:
        present = incarnations(session)
        workers = read_workers(session, now) if present - known else ()
    rehearse(workers, now, config)
    alive = alive_workers(workers, now, config)
    return known & present | {worker.incarnation for worker in alive}
