"""Who asks, what they may and what is theirs: a bearer key names a tenant and has scopes.

Theory of operation: a secret is looked up by its SHA-256. A route asks for `Caller`, for which
reading needs the scope `read` and everything else `submit`, so a new route cannot be left open; a
route that manages keys asks for `Admin`. Both are the tenant's id, by which every query filters.
"""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from api.dependencies import Sessions, Settings, utc_now
from api.errors import ApiError, not_found
from api.rate_limits import RateLimits
from db import jobs, keys
from db.models import Job, Scope
from db.session import transaction

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="`Authorization: Bearer sk-slk-...`. `GET` needs the scope `read`, everything else"
    " `submit`, and `/v1/keys` `admin`.",
)

_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose request it is.

    Attributes:
        key_id: None for the local key, which the operator of the embedded mode holds.
    """

    tenant_id: str
    scopes: frozenset[str]
    key_id: str | None


def authenticate(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    settings: Settings,
    sessions: Sessions,
) -> Identity:
    """Who holds the request's key.

    The lookup is a transaction of its own, so that a slow upload holds no connection.

    Raises:
        ApiError: 401.
    """
    if credentials is None or not credentials.credentials:
        raise _refusal("missing_api_key", "Send your key as 'Authorization: Bearer sk-slk-...'.")
    secret, now = credentials.credentials, utc_now()
    with transaction(sessions) as session:
        if settings.local_key and _is_same(secret, settings.local_key):
            return Identity(keys.ensure_local_tenant(session, now=now), frozenset(Scope), None)
        key = keys.find_key(session, key_sha256=keys.hash_secret(secret), now=now)
    if key is None:
        raise _refusal(
            "invalid_api_key", "This API key is unknown, revoked or expired. Check the key."
        )
    return Identity(key.tenant_id, frozenset(key.scopes), key.id)


Identified = Annotated[Identity, Depends(authenticate)]


def authorize(request: Request, identity: Identified) -> str:
    """The tenant id of a request that reads with `read`, or does anything else with `submit`."""
    scope = Scope.READ if request.method in _READING else Scope.SUBMIT
    return _let_in(request, identity, scope)


def authorize_admin(request: Request, identity: Identified) -> str:
    """The tenant id of a request with the scope `admin`."""
    return _let_in(request, identity, Scope.ADMIN)


Caller = Annotated[str, Depends(authorize)]
"""The tenant id of the request."""

Admin = Annotated[str, Depends(authorize_admin)]
"""The same, on routes that manage the tenant's keys."""


def own_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """The tenant's job.

    Raises:
        ApiError: 404, also for another tenant's job.
    """
    job = jobs.get_job(session, tenant_id, job_id)
    if job is None:
        raise not_found("job", job_id)
    return job


def _let_in(request: Request, identity: Identity, scope: Scope) -> str:
    """Check the scope, then the rate.

    Raises:
        ApiError: 403, 429.
    """
    if scope not in identity.scopes:
        raise ApiError(
            403,
            "insufficient_scope",
            f"This key may not do that: it needs the scope '{scope.value}' and has"
            f" {', '.join(sorted(identity.scopes))}. Use a key that has it.",
            kind="permission_error",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            extra={"scope": scope.value},
        )
    if identity.key_id is not None:
        limits: RateLimits = request.app.state.rate_limits
        reads = request.method in _READING
        request.state.rate_limit = limits.count(identity.key_id, reads=reads)
    return identity.tenant_id


def _is_same(secret: str, expected: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(secret.encode(), expected.encode())


def _refusal(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
