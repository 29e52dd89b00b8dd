"""Sends requests over HTTP, retries what may be retried, and hands streams on as they come."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from tenacity import AsyncRetrying, Retrying

from api.client import responses
from api.client.errors import SlacklineError
from api.client.requests import Call, Pages, Request, Splitter, Stream

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_API_KEY = "sk-slk-local"
"""Key of the embedded mode's own tenant; servers that others can reach refuse it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask, as whom, and how patiently.

    Attributes:
        base_url: Defaults to `SLACKLINE_URL`, then to the embedded mode's address.
        api_key: Defaults to `SLACKLINE_API_KEY`, then to the embedded mode's key.
        timeout_s: Longest wait for a part of one response.
        retry_for_s: How long to go on trying while the server cannot be reached, stops or asks
            for a pause.
    """

    base_url: str | None
    api_key: str | None
    timeout_s: float
    retry_for_s: float

    @property
    def url(self) -> str:
        """The address in force."""
        return self.base_url or os.environ.get("SLACKLINE_URL") or DEFAULT_URL

    def settings(self) -> dict[str, Any]:
        """Arguments of an httpx client."""
        key = self.api_key or os.environ.get("SLACKLINE_API_KEY") or DEFAULT_API_KEY
        return {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {key}"},
            "timeout": self.timeout_s,
        }


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Failures of HTTP as `SlacklineError`."""
    try:
        yield
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise SlacklineError(f"Cannot use {url!r} with this key: {error}") from None
    except httpx.TransportError as error:
        raise responses.unreachable(url, error) from None


class Transport:
    """Pooled connections to one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        with _told(server.url):
            self._http = httpx.Client(**server.settings())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def answer(self, call: Call[T]) -> T:
        """What is asked for.

        Raises:
            SlacklineError: The server refused, failed or could not be reached.
        """
        retrying = Retrying(**responses.retrying(self._server.retry_for_s))
        return call.read(retrying(self._document, call.request))

    def items(self, pages: Pages[T]) -> Iterator[T]:
        """The items of a list, page by page.

        Raises:
            SlacklineError: As `answer`.
        """
        left: Pages[T] | None = pages
        while left is not None:
            page = self.answer(left.call())
            yield from page["data"]
            left = left.behind(page)

    def stream(self, stream: Stream[T]) -> Iterator[T]:
        """The items of a stream, as they arrive.

        Raises:
            SlacklineError: As `answer`, or the server broke off.
        """
        retrying = Retrying(**responses.retrying(self._server.retry_for_s))
        response = retrying(self._open, stream.request)
        splitter = Splitter(stream)
        with closing(response), _told(self._server.url):
            for piece in response.iter_bytes():
                yield from splitter.feed(piece)
            yield from splitter.rest()

    def _document(self, request: Request) -> Any:
        with _told(self._server.url):
            return responses.document(self._http.request(**_arguments(request)))

    def _open(self, request: Request) -> httpx.Response:
        with _told(self._server.url):
            made = self._http.build_request(**_arguments(request))
            response = self._http.send(made, stream=True)
            if not response.is_success:
                response.read()
                raise responses.failure(response)
        return response


class AsyncTransport:
    """Pooled connections to one server, for one event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        with _told(server.url):
            self._http = httpx.AsyncClient(**server.settings())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def answer(self, call: Call[T]) -> T:
        """As `Transport.answer`."""
        retrying = AsyncRetrying(**responses.retrying(self._server.retry_for_s))
        return call.read(await retrying(self._document, call.request))

    async def items(self, pages: Pages[T]) -> AsyncIterator[T]:
        """As `Transport.items`."""
        left: Pages[T] | None = pages
        while left is not None:
            page = await self.answer(left.call())
            for item in page["data"]:
                yield item
            left = left.behind(page)

    async def stream(self, stream: Stream[T]) -> AsyncIterator[T]:
        """As `Transport.stream`."""
        retrying = AsyncRetrying(**responses.retrying(self._server.retry_for_s))
        response: httpx.Response = await retrying(self._open, stream.request)
        splitter = Splitter(stream)
        async with aclosing(response):
            with _told(self._server.url):
                async for piece in response.aiter_bytes():
                    for item in splitter.feed(piece):
                        yield item
                for item in splitter.rest():
                    yield item

    async def _document(self, request: Request) -> Any:
        with _told(self._server.url):
            return responses.document(await self._http.request(**_async_arguments(request)))

    async def _open(self, request: Request) -> httpx.Response:
        with _told(self._server.url):
            made = self._http.build_request(**_async_arguments(request))
            response = await self._http.send(made, stream=True)
            if not response.is_success:
                await response.aread()
                raise responses.failure(response)
        return response


def _arguments(request: Request) -> dict[str, Any]:
    """One attempt, as httpx takes it."""
    return {
        "method": request.method,
        "url": request.path,
        "params": request.given,
        "headers": request.headers,
        "content": request.content() if request.content else None,
    }


def _async_arguments(request: Request) -> dict[str, Any]:
    """The same, with a body that is read beside the event loop."""
    arguments = _arguments(request)
    if isinstance(arguments["content"], Iterator):
        arguments["content"] = _chunks(arguments["content"])
    return arguments


async def _chunks(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk
