"""HTTP to an OpenAI-compatible server: what it offers, and completions as streams of chunks."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from worker.engines.openai.settings import EndpointSettings
from worker.engines.openai.wire import Chunk, StreamError, error_text, parse_chunk

CONNECT_TIMEOUT_S = 10.0
_LISTING_TIMEOUT_S = 10.0
_MAX_ERROR_CHARS = 500
_TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses below 500 that say nothing against the request itself."""


class EndpointError(Exception):
    """A request that the server did not serve; the message says what to do.

    Attributes:
        is_transient: Whether the same request may be served later.
        is_refusal: Whether the server looked at the request and refused it.
        retry_after_s: How long the server asks to wait, if it does.
    """

    def __init__(
        self,
        message: str,
        *,
        is_transient: bool,
        is_refusal: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        self.is_refusal = is_refusal
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that the server lists."""

    name: str
    owned_by: str
    max_model_len: int | None


class Endpoint:
    """A client of one server; used from one event loop."""

    def __init__(self, settings: EndpointSettings, *, max_connections: int) -> None:
        self._settings = settings
        key = settings.api_key
        self._client = httpx.AsyncClient(
            base_url=f"{settings.base_url}/",
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            # A stream is silent while its request waits in the server; deadlines bound that.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=max_connections),
        )

    async def models(self) -> list[OfferedModel]:
        """What the server offers.

        Raises:
            EndpointError: It cannot be reached, refused the key, or is no such server.
        """
        try:
            response = await self._client.get("models", timeout=_LISTING_TIMEOUT_S)
            await self._check(response)
            listed = orjson.loads(response.content)["data"]
            return [
                OfferedModel(
                    str(model["id"]), str(model.get("owned_by")), model.get("max_model_len")
                )
                for model in listed
            ]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise EndpointError(
                f"{self._settings.base_url}/models lists no models; is that the address of an"
                " OpenAI-compatible API, which usually ends in /v1?",
                is_transient=False,
            ) from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[Chunk]:
        """Request a completion and yield its chunks; closing the iterator aborts it.

        Raises:
            EndpointError: The server cannot be reached, refused, or broke off.
        """
        try:
            async with self._client.stream("POST", path, json=body) as response:
                await self._check(response)
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    # Read on after the mark of the end, so that the connection can be used again.
                    if data != "[DONE]":
                        yield parse_chunk(data)
        except StreamError as error:
            raise EndpointError(f"the server failed: {error}", is_transient=True) from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        await response.aread()
        status = response.status_code
        raise EndpointError(
            self._refusal(status, response),
            is_transient=status >= 500 or status in _TRANSIENT,
            is_refusal=400 <= status < 500,
            retry_after_s=_seconds(response.headers.get("retry-after")),
        )

    def _refusal(self, status: int, response: httpx.Response) -> str:
        try:
            said = error_text(orjson.loads(response.content))
        except orjson.JSONDecodeError:
            said = None
        said = (said or response.text.strip() or response.reason_phrase)[:_MAX_ERROR_CHARS]
        if status in (401, 403):
            hint = "; set SLACKLINE_ENDPOINT__API_KEY to a key that it takes"
        elif status == 404:
            hint = "; check the model's name and that the base URL is that of the API"
        else:
            hint = ""
        return f"the server at {self._settings.base_url} answered {status}: {said}{hint}"

    def _unreachable(self, error: httpx.HTTPError) -> EndpointError:
        said = str(error) or type(error).__name__
        return EndpointError(
            f"no answer from the server at {self._settings.base_url} ({said}); check that it runs"
            " and that --base-url is its address",
            is_transient=True,
        )


def _seconds(header: str | None) -> float | None:
    """Seconds of a `Retry-After` header; a date, which model servers do not send, is ignored."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
