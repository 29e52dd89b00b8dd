"""Keys of the caller's tenant: make, list, rotate, revoke. All need the scope `admin`."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy.orm import Session

from api.auth import Admin
from api.body import ReceivedAdminJson, parse_json
from api.dependencies import Sessions, Settings, utc_now
from api.errors import ApiError, invalid, not_found
from api.schemas.keys import KeyIn, KeyList, KeyOut, KeyWithSecret, RotationIn
from api.schemas.openapi import TOO_LARGE, body_of
from api.schemas.operations import ErrorOut
from db import keys
from db.models import ApiKey
from db.session import transaction

router = APIRouter(prefix="/v1/keys", tags=["keys"])

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such key of yours."}
}


def _known_form(key_id: str) -> str:
    """Postgres refuses text with NUL characters."""
    if "\0" in key_id:
        raise not_found("key", key_id.replace("\0", ""))
    return key_id


KeyId = Annotated[str, Depends(_known_form)]


def own_key(session: Session, tenant_id: str, key_id: str) -> ApiKey:
    """The tenant's key.

    Raises:
        ApiError: 404, also for another tenant's key.
    """
    key = keys.get_key(session, tenant_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    return key


def _view(key: ApiKey) -> KeyOut:
    return KeyOut.model_validate(key, from_attributes=True)


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    openapi_extra=body_of(KeyIn),
    responses={
        **TOO_LARGE,
        409: {"model": ErrorOut, "description": "The tenant has as many keys as it may."},
    },
)
def create_key(
    body: ReceivedAdminJson, caller: Admin, settings: Settings, sessions: Sessions
) -> KeyWithSecret:
    """Make a key of your tenant. Its secret is shown in this answer and never again."""
    wanted, now = parse_json(body, KeyIn), utc_now()
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise invalid("expires_at", "The key would have expired already. Give a later time.")
    secret = keys.new_secret()
    with transaction(sessions) as session:
        if keys.count_keys(session, caller) >= settings.max_keys:
            raise ApiError(
                409,
                "too_many_keys",
                f"Your tenant has {settings.max_keys} keys, which is all it may have. Revoke one"
                " first.",
            )
        key_id = keys.insert_api_key(
            session,
            tenant_id=caller,
            key_sha256=keys.hash_secret(secret),
            label=wanted.label,
            scopes=wanted.scopes,
            expires_at=wanted.expires_at,
            now=now,
        )
        view = _view(own_key(session, caller, key_id))
    return KeyWithSecret(**view.model_dump(), secret=secret)


@router.get("", summary="List keys")
def list_keys(caller: Admin, sessions: Sessions) -> KeyList:
    """Every key of your tenant that was not revoked; those that have expired are among them."""
    with transaction(sessions) as session:
        return KeyList(data=[_view(key) for key in keys.list_keys(session, caller)])


@router.get("/{key_id}", summary="Read a key", responses=_NOT_FOUND)
def read_key(key_id: KeyId, caller: Admin, sessions: Sessions) -> KeyOut:
    """A key of your tenant without its secret, also when it is revoked."""
    with transaction(sessions) as session:
        return _view(own_key(session, caller, key_id))


@router.post(
    "/{key_id}/rotate",
    summary="Give a key another secret",
    openapi_extra=body_of(RotationIn, required=False),
    responses={
        **_NOT_FOUND,
        **TOO_LARGE,
        409: {"model": ErrorOut, "description": "The key is revoked or has expired."},
    },
)
def rotate_key(
    key_id: KeyId, body: ReceivedAdminJson, caller: Admin, sessions: Sessions
) -> KeyWithSecret:
    """A new secret; the one before stays good for `grace_s`, and one before that ends at once."""
    wanted, now = parse_json(body or b"{}", RotationIn), utc_now()
    secret = keys.new_secret()
    with transaction(sessions) as session:
        own_key(session, caller, key_id)
        rotated = keys.rotate_key(
            session,
            key_id,
            key_sha256=keys.hash_secret(secret),
            grace=timedelta(seconds=wanted.grace_s),
            now=now,
        )
        if rotated is None:
            raise ApiError(
                409, "key_not_in_force", f"Cannot rotate {key_id}: it is over. Make a new key."
            )
        return KeyWithSecret(**_view(rotated).model_dump(), secret=secret)


@router.delete("/{key_id}", summary="Revoke a key", responses=_NOT_FOUND)
def revoke_key(key_id: KeyId, caller: Admin, sessions: Sessions) -> KeyOut:
    """Refuse a key from now on, its secret before as well; revoking twice is no error."""
    with transaction(sessions) as session:
        key = own_key(session, caller, key_id)
        keys.revoke_api_key(session, key_id, now=utc_now())
        return _view(key)
