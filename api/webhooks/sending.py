"""One attempt to deliver: signs the message and posts it to an address that was checked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version

import httpx
import orjson
from standardwebhooks import Webhook as Signer

from api.webhooks.addresses import (
    ForbiddenAddressError,
    IPAddress,
    Resolve,
    checked_addresses,
    resolve_by_system,
)
from api.webhooks.settings import WebhookSettings
from db.models import Webhook, WebhookDelivery

_MAX_RESPONSE_BYTES = 64 * 1024
"""So much of a response is read, for the receiver's sake; none of it is kept."""

_CONNECT_TIMEOUT_S = 3.0
"""A name may have an address that is out of reach, and another one."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt.

    Attributes:
        status: HTTP status; None when there was no response.
        error: What went wrong, for the receiver's owner; None when the receiver has it.
    """

    status: int | None
    error: str | None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more."""
        return self.status == HTTPStatus.GONE


class Sender:
    """Posts messages. Each has a connection of its own, checked for its own host.

    Args:
        resolve: Another resolver than the system's, for tests.
    """

    def __init__(self, settings: WebhookSettings, resolve: Resolve = resolve_by_system) -> None:
        self._settings = settings
        self._resolve = resolve
        # Of its own: a name server that does not answer must hold up nothing else.
        self._resolvers = ThreadPoolExecutor(settings.max_concurrent, "webhook-names")
        self._tls = httpx.create_ssl_context()
        self._agent = f"slackline/{version('slackline')}"

    def close(self) -> None:
        """Take no more messages."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def send(self, webhook: Webhook, delivery: WebhookDelivery, now: datetime) -> Attempt:
        """Try once; failures are part of the answer."""
        body = message(delivery)
        headers = {
            **signed_headers(webhook, delivery.event_id, body, now),
            "Content-Type": "application/json",
            "User-Agent": self._agent,
        }
        timeout_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._post(httpx.URL(webhook.url), body, headers)
        except ForbiddenAddressError as error:
            return Attempt(None, f"not sent: {error}")
        except TimeoutError:
            return Attempt(None, f"no response within {timeout_s:g} s")
        except (httpx.HTTPError, OSError, ValueError) as error:
            # ValueError: a host that cannot be encoded as a name.
            return Attempt(None, f"{type(error).__name__}: {error}"[:500])

    async def _post(self, url: httpx.URL, body: bytes, headers: dict[str, str]) -> Attempt:
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await asyncio.get_running_loop().run_in_executor(
            self._resolvers,
            lambda: checked_addresses(
                host, port, allow_private=self._settings.allow_private, resolve=self._resolve
            ),
        )
        *first, last = addresses
        for address in first:
            try:
                return await self._post_to(address, url, body, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._post_to(last, url, body, headers)

    async def _post_to(
        self, address: IPAddress, url: httpx.URL, body: bytes, headers: dict[str, str]
    ) -> Attempt:
        """Connect to the address, and talk as to the host of the URL.

        A client for each: kept connections are told apart by address, not by the host that they
        were checked for.
        """
        timeout = httpx.Timeout(self._settings.timeout_s, connect=_CONNECT_TIMEOUT_S)
        async with (
            httpx.AsyncClient(verify=self._tls, timeout=timeout, trust_env=False) as client,
            client.stream(
                "POST",
                url.copy_with(host=str(address)),
                content=body,
                headers={**headers, "Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
                follow_redirects=False,
            ) as response,
        ):
            num_bytes = 0
            async for chunk in response.aiter_raw():
                num_bytes += len(chunk)
                if num_bytes > _MAX_RESPONSE_BYTES:
                    break
            return Attempt(response.status_code, _error_of(response))


def message(delivery: WebhookDelivery) -> bytes:
    """The body, the same for every attempt: an event in OpenAI's form."""
    return orjson.dumps(
        {
            "id": delivery.event_id,
            "object": "event",
            "created_at": int(delivery.created_at.timestamp()),
            "type": delivery.event_type,
            "data": delivery.data,
        }
    )


def signed_headers(webhook: Webhook, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks, signed by every secret that is in force."""
    secrets = [webhook.secret]
    if webhook.previous_secret is not None and (webhook.previous_secret_until or now) > now:
        secrets.append(webhook.previous_secret)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(
            Signer(secret).sign(event_id, now, body.decode()) for secret in secrets
        ),
    }


def _error_of(response: httpx.Response) -> str | None:
    if response.is_success:
        return None
    if response.is_redirect:
        return f"HTTP {response.status_code}: redirects are not followed"
    return f"HTTP {response.status_code}"
