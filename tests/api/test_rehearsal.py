"""The API makes the tables of a model when a worker joins, before anybody submits."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from api import rehearsal
from api.dependencies import utc_now
from api.rehearsal import rehearsing
from db.session import SessionFactory, connect, session_factory, transaction
from db.workers import register_worker
from infra.servers import free_port
from scheduler.core.config import SchedulerConfig
from scheduler.core.early_stops import stops_of
from tests.factories import answer_profile, engine_spec, latency_profile

CONFIG = SchedulerConfig()


def num_tables() -> int:
    """Tables that this process has made."""
    return stops_of.cache_info().misses


def join(sessions: SessionFactory, name: str, num_problems_seen: int) -> None:
    """Register a worker; no other test has its profile."""
    answers = answer_profile(num_problems_seen=num_problems_seen)
    with transaction(sessions) as session:
        register_worker(
            session,
            name=name,
            incarnation=f"{name}-1",
            spec=engine_spec(),
            latency=latency_profile(),
            answers=answers,
            now=utc_now(),
        )


async def more_than(before: int) -> int:
    """Tables, once there are more."""
    async with asyncio.timeout(30.0):
        while num_tables() == before:
            await asyncio.sleep(0.02)
    return num_tables()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come soon after one another."""
    monkeypatch.setattr(rehearsal, "_INTERVAL_S", 0.02)


@pytest.mark.usefixtures("often")
def test_workers_that_join_are_rehearsed_for(sessions: SessionFactory) -> None:
    async def watched() -> None:
        before = num_tables()
        join(sessions, "w1", 71_001)
        async with rehearsing(sessions, CONFIG):
            first = await more_than(before)
            join(sessions, "w2", 71_002)
            await more_than(first)

    asyncio.run(watched())


@pytest.mark.usefixtures("often")
def test_a_store_that_is_away_is_asked_again() -> None:
    engine = connect(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")

    async def watched(logs: Sequence[object]) -> None:
        async with rehearsing(session_factory(engine), CONFIG), asyncio.timeout(30.0):
            while len(logs) < 2:
                await asyncio.sleep(0.02)

    with capture_logs() as logs:
        asyncio.run(watched(logs))
    engine.dispose()
    assert {(log["event"], log["waiting"]) for log in logs} == {("store.away", "rehearsal")}
