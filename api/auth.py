"""Bearer keys: a secret is looked up by its SHA-256 and names a tenant."""

import hmac
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.dependencies import Sessions, Settings, utc_now
from api.errors import ApiError
from db import keys
from db.session import transaction

_bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="`Authorization: Bearer sk-slk-...`"
)


def authenticate(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    settings: Settings,
    sessions: Sessions,
) -> str:
    """The tenant id behind the request's key.

    The lookup is a transaction of its own, so that a slow upload holds no connection.

    Raises:
        ApiError: 401.
    """
    if credentials is None or not credentials.credentials:
        raise _refusal("missing_api_key", "Send your key as 'Authorization: Bearer sk-slk-...'.")
    secret = credentials.credentials
    with transaction(sessions) as session:
        if settings.local_key and _is_same(secret, settings.local_key):
            return keys.ensure_local_tenant(session, now=utc_now())
        tenant_id = keys.find_tenant(session, key_sha256=keys.hash_secret(secret))
    if tenant_id is None:
        raise _refusal("invalid_api_key", "This API key is unknown or revoked. Check the key.")
    return tenant_id


Caller = Annotated[str, Depends(authenticate)]
"""The tenant id of the request."""


def _is_same(secret: str, expected: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(secret.encode(), expected.encode())


def _refusal(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
