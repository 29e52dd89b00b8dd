"""The client for event loops against the live API; types of its answers are checked by mypy."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import pytest

from api.client import AsyncClient, Client, Job, Problem, Result, SlacklineError
from db import events
from db.endings import finish_cancelled
from db.session import SessionFactory, transaction
from infra.servers import free_port
from scheduler.core.event_kinds import EventKind
from tests.api.client.scripted import STOPPING, Script, scripted
from tests.api.live import LOCAL_KEY
from tests.factories import MODEL, NOW

PROBLEMS: list[Problem | str] = [{"id": "a", "prompt": "1+1="}, "1+2="]


def methods(client: type) -> dict[str, list[inspect.Parameter]]:
    """Public methods with their parameters."""
    return {
        name: list(inspect.signature(method).parameters.values())
        for name, method in inspect.getmembers(client, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    assert methods(AsyncClient) == methods(Client)
    assert "submit" in methods(Client)
    assert AsyncClient.submit.__doc__ == Client.submit.__doc__


def test_a_job_from_its_file_to_its_end(
    url: str,
    worker: str,  # noqa: ARG001
    sessions: SessionFactory,
    tmp_path: Path,
) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}+1="}) + "\n" for n in range(5_000)))

    async def walk() -> None:
        async with AsyncClient(url, LOCAL_KEY) as client:
            job = await client.submit(file, model=MODEL, deadline="9h", name="big")
            assert_type(job, Job)
            assert (job["name"], job["num_problems"]) == ("big", 5_000)
            results = client.results(job["id"])
            assert_type(results, AsyncIterator[Result])
            assert [r["id"] async for r in results] == [f"problem-{n + 1}" for n in range(5_000)]
            assert (await client.explain(job["id"]))["job_id"] == job["id"]
            assert (await client.change(job["id"], weight=2.0))["weight"] == 2.0
            assert (await client.cancel(job["id"]))["state"] == "cancelling"
            states: list[str] = []
            async for look in client.watch(job["id"], poll_s=0.01):
                states.append(look["state"])
                with transaction(sessions) as session:
                    finish_cancelled(session, job["id"], now=datetime.now(UTC))
            assert states == ["cancelling", "cancelled"]
            assert (await client.wait(job["id"]))["state"] == "cancelled"
            kinds = [event["kind"] async for event in client.follow(job["id"])]
            assert (kinds[0], kinds[-1]) == ("job.queued", "job.cancelled")
            book = b"".join([piece async for piece in client.grade_book(job["id"], "csv")])
            assert book.startswith(b"problem_id,")
            assert [worker["name"] for worker in await client.workers()] == ["w1"]
            assert (await client.report(group_by="model"))["group_by"] == "model"
            assert (await client.quote(PROBLEMS, model=MODEL))["num_problems"] == 2

    asyncio.run(walk())


def test_lists_come_from_all_pages_and_requests_run_beside_each_other(
    url: str,
    worker: str,  # noqa: ARG001
    sessions: SessionFactory,
) -> None:
    async def walk() -> None:
        async with AsyncClient(url, LOCAL_KEY) as client:
            jobs = await asyncio.gather(
                *(client.submit(PROBLEMS, model=MODEL, deadline="1h") for _ in range(4))
            )
            numbered = [
                events.Event(jobs[0]["id"], EventKind.PLAN_STORED, {"number": n})
                for n in range(1_500)
            ]
            with transaction(sessions) as session:
                events.record_all(session, numbered, now=NOW)
            found = client.events(jobs[0]["id"])
            notes = [e["data"]["number"] async for e in found if e["kind"] == EventKind.PLAN_STORED]
            assert notes == list(range(1_500))
            assert {job["id"] async for job in client.jobs()} == {job["id"] for job in jobs}
            assert len([job async for job in client.jobs(limit=3)]) == 3

    asyncio.run(walk())


def test_failures_are_those_of_the_other_client(url: str, worker: str) -> None:  # noqa: ARG001
    async def asked(base_url: str, ask: str, *arguments: Any, **options: Any) -> SlacklineError:
        async with AsyncClient(base_url, LOCAL_KEY, retry_for_s=0.2) as client:
            found = getattr(client, ask)(*arguments, **options)
            with pytest.raises(SlacklineError) as caught:
                await (anext(found) if hasattr(found, "__anext__") else found)
        return caught.value

    nowhere = f"http://127.0.0.1:{free_port()}"
    unknown = "job_" + "0" * 32
    refused = asyncio.run(asked(url, "submit", ["x"] * 500, model=MODEL, deadline="1s"))

    assert refused.code == "deadline_infeasible"
    assert "earliest_finish_at" in refused.details
    assert asyncio.run(asked(url, "job", unknown)).code == "not_found"
    assert asyncio.run(asked(url, "results", unknown)).code == "not_found"
    assert asyncio.run(asked(nowhere, "workers")).code == "connection_error"
    assert asyncio.run(asked(nowhere, "results", unknown)).code == "connection_error"
    missing = asyncio.run(asked(url, "submit", Path("none.jsonl"), model=MODEL, deadline="1h"))
    assert missing.code == "file_error"


def test_a_server_that_stops_is_asked_again_when_it_is_back() -> None:
    script: Script = [(503, STOPPING, {}), (200, {"id": "job_1"}, {})]

    async def walk(url: str) -> None:
        async with AsyncClient(url, LOCAL_KEY) as client:
            assert (await client.job("job_1"))["id"] == "job_1"

    with scripted(script) as url:
        asyncio.run(walk(url))
    assert script == []
