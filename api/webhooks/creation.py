"""What a tenant may set about a webhook: a checked address, and secrets made here."""

import base64
import secrets

import httpx

from api.errors import ApiError, invalid
from api.webhooks.addresses import ForbiddenAddressError, check_address, numeric_addresses
from api.webhooks.settings import WebhookSettings

_SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh secret in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def checked_url(text: str, settings: WebhookSettings) -> str:
    """The address of a webhook as it is stored. Names are not resolved before something is sent.

    Raises:
        ApiError: 400; it is no address that this server sends to.
    """
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError) as error:
        raise invalid("url", f"Cannot read the address in 'url': {error}.") from None
    schemes = ("https", "http") if settings.allow_private else ("https",)
    if url.scheme not in schemes or not host:
        raise invalid("url", f"Give an address that begins with {' or '.join(schemes)}://.")
    if url.userinfo or url.fragment:
        raise invalid("url", "Leave out user, password and fragment; messages are signed.")
    try:
        for address in numeric_addresses(host):
            check_address(address, allow_private=settings.allow_private)
    except ForbiddenAddressError as error:
        raise invalid("url", f"Cannot send to 'url': {error}.", code="forbidden_address") from None
    return str(url)


def too_many(settings: WebhookSettings) -> ApiError:
    """A 409: the tenant has as many webhooks as it may have."""
    return ApiError(
        409,
        "too_many_webhooks",
        f"You have {settings.max_per_tenant} webhooks, all that you may have. Delete one.",
    )
