"""Sends requests: retries what is safe to retry, and turns failures into `SlacklineError`.

Every request of this client may be sent twice: reads change nothing, a cancel is idempotent, and
a submission carries an `Idempotency-Key`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from api.client.errors import SlacklineError

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_PASSING_CODES = frozenset({"store_unavailable", "server_stopping"})
_GATEWAY_STATUSES = frozenset({502, 504})
_PAGE = 100

Content = Callable[[], Any]
"""Makes the body of one attempt, as httpx takes it in `content`."""


class Transport:
    """One server, one key, pooled connections.

    Args:
        timeout_s: Longest wait for a part of one response.
        retry_for_s: How long to go on trying while the server cannot be reached.
    """

    def __init__(self, base_url: str, api_key: str, timeout_s: float, retry_for_s: float) -> None:
        self._base_url = base_url
        self._retry_for_s = retry_for_s
        try:
            self._http = httpx.Client(
                base_url=base_url,
                headers={"Authorization": f"Bearer {api_key}"},
                timeout=timeout_s,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise SlacklineError(f"Cannot use {base_url!r} with this key: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
    ) -> Any:
        """The JSON of a response.

        Raises:
            SlacklineError: The server refused, failed or could not be reached.
        """
        give_up_at = time.monotonic() + self._retry_for_s
        pause_s = _FIRST_PAUSE_S
        while True:
            failure: SlacklineError
            try:
                response = self._http.request(
                    method,
                    path,
                    params=_given(params),
                    headers=headers,
                    content=content() if content else None,
                )
            except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
                failure = self._unreachable(error)
                if isinstance(error, httpx.UnsupportedProtocol):
                    raise failure from None
            else:
                if response.is_success:
                    return _json(response)
                failure = _failure(response)
                if not _is_passing(failure):
                    raise failure
            if time.monotonic() + pause_s > give_up_at:
                raise failure
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def items(
        self, path: str, *, params: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Iterator[Any]:
        """The items of a list, page by page; all of them without a `limit`.

        Raises:
            SlacklineError: As `request`.
        """
        after: str | None = None
        remaining = limit
        while remaining is None or remaining > 0:
            size = _PAGE if remaining is None else min(remaining, _PAGE)
            given = {**(params or {}), "limit": size, "after": after}
            page = self.request("GET", path, params=given)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["next_after"]
            remaining = None if remaining is None else remaining - len(page["data"])

    @contextmanager
    def lines(self, path: str, *, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The lines of a streamed response, as they arrive.

        Raises:
            SlacklineError: The server refused, failed or broke off.
        """
        with self._stream(path, params) as response:
            yield _lines(response.iter_bytes())

    @contextmanager
    def pieces(self, path: str, *, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The bytes of a streamed response, as they arrive.

        Raises:
            SlacklineError: The server refused, failed or broke off.
        """
        with self._stream(path, params) as response:
            yield response.iter_bytes()

    @contextmanager
    def _stream(self, path: str, params: Mapping[str, Any]) -> Iterator[httpx.Response]:
        accept = {"Accept": "application/x-ndjson"}
        try:
            with self._http.stream("GET", path, params=_given(params), headers=accept) as response:
                if not response.is_success:
                    response.read()
                    raise _failure(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> SlacklineError:
        reason = str(error) or type(error).__name__
        return SlacklineError(
            f"Cannot reach Slackline at {self._base_url} ({reason}). Start it with"
            " 'slackline up', or set SLACKLINE_URL.",
            code="connection_error",
        )


def job_path(job_id: str) -> str:
    """Path of a job; an id with other characters could name another resource."""
    if not job_id.replace("_", "").isalnum():
        raise SlacklineError(f"{job_id!r} is not a job id; one looks like job_0190...")
    return f"/v1/jobs/{job_id}"


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines that end with a line feed only; texts in them may hold what Unicode calls an end."""
    held = b""
    for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        yield from whole
    if held:
        yield held


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters that were set."""
    return {name: value for name, value in (params or {}).items() if value is not None}


def _is_passing(failure: SlacklineError) -> bool:
    """Whether the same request may succeed in a moment."""
    return failure.code in _PASSING_CODES or failure.status in _GATEWAY_STATUSES


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise SlacklineError(
            f"{response.url} did not answer with JSON; is it a Slackline server?",
            status=response.status_code,
            code="invalid_response",
        ) from None


def _failure(response: httpx.Response) -> SlacklineError:
    """The server's envelope as an exception; proxies answer without one."""
    try:
        error = dict(response.json()["error"])
        message = str(error.pop("message"))
    except (ValueError, KeyError, TypeError):
        return SlacklineError(
            f"HTTP {response.status_code} {response.reason_phrase} from {response.url}",
            status=response.status_code,
            code="http_error",
        )
    code, param = error.pop("code", None), error.pop("param", None)
    return SlacklineError(
        message,
        status=response.status_code,
        kind=str(error.pop("type", None) or "error"),
        code=str(code or "error"),
        param=param,
        details=error,
    )
