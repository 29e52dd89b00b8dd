"""A live API per test: the real application behind uvicorn on loopback, on its own Postgres."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from api.app import create_app
from api.settings import ApiSettings
from db.models import IdempotencyKey, Job, JobEvent, Problem
from db.session import SessionFactory, transaction
from tests.factories import MODEL, stored_worker

LOCAL_KEY = "sk-slk-local"

Serve = Callable[..., httpx.Client]


@contextmanager
def _served(settings: ApiSettings) -> Iterator[str]:
    """URL of the application, served from a thread."""
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=0, log_level="critical", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve(database_url: str) -> Iterator[Serve]:
    """Starts the application with the settings given; returns a client with the local key."""
    with ExitStack() as stack:

        def start(*, key: str = LOCAL_KEY, **settings: Any) -> httpx.Client:
            values = {"database_url": database_url, "local_key": LOCAL_KEY} | settings
            url = stack.enter_context(_served(ApiSettings(**values)))
            headers = {"Authorization": f"Bearer {key}"}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30))

        yield start


@pytest.fixture
def api(serve: Serve, worker: str) -> httpx.Client:
    """The API with default limits and one worker alive."""
    assert worker
    return serve()


@pytest.fixture
def worker(sessions: SessionFactory) -> str:
    """A worker whose last heartbeat lies ahead, so that it stays alive through a slow test."""
    with transaction(sessions) as session:
        return stored_worker(session, now=datetime.now(UTC) + timedelta(minutes=10))


@pytest.fixture
def stored_rows(sessions: SessionFactory) -> Callable[[], dict[str, int]]:
    """Counts the rows that a submission writes."""

    def count() -> dict[str, int]:
        with transaction(sessions) as session:
            return {
                table.__tablename__: session.scalars(select(func.count()).select_from(table)).one()
                for table in (Job, Problem, IdempotencyKey, JobEvent)
            }

    return count


def job_body(num_problems: int = 3, **overrides: Any) -> dict[str, Any]:
    """A JSON submission that is due in an hour."""
    problems = [
        {"id": f"p{number}", "prompt": f"1+{number}=", "reference_answer": str(1 + number)}
        for number in range(num_problems)
    ]
    return {"model": MODEL, "deadline": "1h", "problems": problems} | overrides


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, after a check that it has the envelope."""
    document = response.json()
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["code"], str)
    return error
