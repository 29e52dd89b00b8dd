"""Requests as values: what is asked and how the answer is read, without any input or output.

`calls` makes them; a transport of `Client` or `AsyncClient` sends them. Each may be sent twice:
reads change nothing, a cancel is idempotent, and a submission carries an `Idempotency-Key`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from api.client.errors import SlacklineError

_PAGE = 100

T = TypeVar("T")

Content = Callable[[], bytes | Iterator[bytes]]
"""Makes the body of one attempt."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; parameters that are None are left out."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that were set."""
        return {name: value for name, value in self.params.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request whose answer is one JSON document; `read` takes what is asked for out of it."""

    request: Request
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A list that comes page by page; all of it without a `limit`."""

    request: Request
    limit: int | None = None

    def call(self) -> Call[dict[str, Any]]:
        """The request of the next page."""
        size = _PAGE if self.limit is None else min(self.limit, _PAGE)
        params = {**self.request.params, "limit": size}
        return Call(replace(self.request, params=params), lambda page: page)

    def behind(self, page: dict[str, Any]) -> "Pages[T] | None":
        """What is left to ask for behind a page; None at the end."""
        left = None if self.limit is None else self.limit - len(page["data"])
        if not page["has_more"] or left == 0:
            return None
        params = {**self.request.params, "after": page["next_after"]}
        return Pages(replace(self.request, params=params), left)


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """A request whose answer is read while it comes, item by item.

    Attributes:
        read: Makes an item of its bytes; None for what is none.
        separator: What ends an item; without one, pieces are items as they come.
    """

    request: Request
    read: Callable[[bytes], T | None]
    separator: bytes | None = b"\n"


class Splitter(Generic[T]):
    """Takes the bytes of a stream apart; an empty item is none."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._held = b""

    def feed(self, piece: bytes) -> Iterator[T]:
        """The items that this piece completes."""
        whole = [piece]
        if self._stream.separator is not None:
            *whole, self._held = (self._held + piece).split(self._stream.separator)
        return self._items(whole)

    def rest(self) -> Iterator[T]:
        """A last item without its separator."""
        return self._items([self._held])

    def _items(self, parts: list[bytes]) -> Iterator[T]:
        items = map(self._stream.read, filter(None, parts))
        return (item for item in items if item is not None)


def job_path(job_id: str) -> str:
    """Path of a job; an id with other characters could name another resource.

    Raises:
        SlacklineError: It is not an id.
    """
    if not job_id.replace("_", "").isalnum():
        raise SlacklineError(f"{job_id!r} is not a job id; one looks like job_0190...")
    return f"/v1/jobs/{job_id}"


def with_document(request: Request) -> Request:
    """The request with its parameters in a JSON body."""
    document = json.dumps(request.given).encode()
    headers = {**request.headers, "Content-Type": "application/json"}
    return replace(request, params={}, headers=headers, content=lambda: document)
