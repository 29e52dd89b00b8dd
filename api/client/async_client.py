"""The Python client for programs on an event loop: the methods of `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from api.client import calls, control_calls, webhook_calls
from api.client.errors import SlacklineError
from api.client.methods import documented
from api.client.requests import Call, Pages, Stream
from api.client.shapes import END_KINDS, TERMINAL_STATES, Event, Job
from api.client.transport import AsyncTransport, Server

P = ParamSpec("P")
T = TypeVar("T")


def _answer(
    describe: Callable[P, Call[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.answer(describe(*args, **kwargs))

    return documented(describe, method)


def _items(describe: Callable[P, Pages[T]]) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._transport.items(describe(*args, **kwargs))

    return documented(describe, method, AsyncIterator)


def _stream(describe: Callable[P, Stream[T]]) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._transport.stream(describe(*args, **kwargs))

    return documented(describe, method, AsyncIterator)


class AsyncClient:
    """Talks to one Slackline server from one event loop of asyncio.

    Close it or use it in an `async with` statement. Methods and arguments are those of `Client`;
    lists and streams are iterated with `async for`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retry_for_s: float = 10.0,
    ) -> None:
        self._transport = AsyncTransport(Server(base_url, api_key, timeout_s, retry_for_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    submit = _answer(calls.submit)
    quote = _answer(calls.quote)
    explain = _answer(calls.explain)
    job = _answer(calls.job)
    jobs = _items(calls.jobs)
    results = _stream(calls.results)
    grades = _stream(calls.grades)
    grade_book = _stream(calls.grade_book)
    events = _items(calls.events)
    change = _answer(control_calls.change)
    retry = _answer(control_calls.retry)
    cancel = _answer(calls.cancel)
    cost = _answer(calls.cost)
    report = _answer(calls.report)
    comparison = _answer(calls.comparison)
    workers = _answer(calls.workers)
    create_webhook = _answer(webhook_calls.create_webhook)
    webhook = _answer(webhook_calls.webhook)
    webhooks = _answer(webhook_calls.webhooks)
    change_webhook = _answer(webhook_calls.change_webhook)
    rotate_webhook_secret = _answer(webhook_calls.rotate_webhook_secret)
    delete_webhook = _answer(webhook_calls.delete_webhook)
    deliveries = _items(webhook_calls.deliveries)
    redeliver = _answer(webhook_calls.redeliver)
    redeliver_dead = _answer(webhook_calls.redeliver_dead)

    async def follow(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """As `Client.follow`."""
        while True:
            is_silent = True
            try:
                async for event in self._transport.stream(
                    control_calls.event_stream(job_id, after)
                ):
                    after, is_silent = event["id"] or after, False
                    yield event
                    if event["kind"] in END_KINDS:
                        return
            except SlacklineError as error:
                if is_silent or error.code != "connection_error":
                    raise
            if is_silent and (await self.job(job_id))["state"] in TERMINAL_STATES:
                return

    async def watch(self, job_id: str, *, poll_s: float = 0.5) -> AsyncIterator[Job]:
        """The job as it changes, its final state last."""
        while True:
            job = await self.job(job_id)
            yield job
            if job["state"] in TERMINAL_STATES:
                return
            await asyncio.sleep(poll_s)

    async def wait(self, job_id: str, *, poll_s: float = 0.5) -> Job:
        """The job once it has ended."""
        return [job async for job in self.watch(job_id, poll_s=poll_s)][-1]
