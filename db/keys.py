"""Who may submit: tenants, API keys known by their SHA-256 only, idempotency keys."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import uuid_utils
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import ApiKey, IdempotencyKey, Scope, Tenant

LOCAL_TENANT = "ten_local"
"""Tenant of the embedded mode."""

DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)

_USE_STEP = timedelta(minutes=1)
"""`last_used_at` is written at most this often, as a write costs a commit to disk."""


def new_secret() -> str:
    """A fresh API key; shown once, then only its hash is known."""
    return f"sk-slk-{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """SHA-256 of an API key in hex. The key has 256 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_tenant(session: Session, *, name: str, weight: float = 1.0, now: datetime) -> str:
    """Add a tenant; `weight` is its share of row-seconds. Returns the new id."""
    tenant_id = f"ten_{uuid_utils.uuid7().hex}"
    session.add(Tenant(id=tenant_id, name=name, weight=weight, created_at=now))
    session.flush()
    return tenant_id


def ensure_local_tenant(session: Session, *, now: datetime) -> str:
    """Add the embedded mode's tenant unless it is there; returns its id."""
    session.execute(
        insert(Tenant)
        .values(id=LOCAL_TENANT, name="local", created_at=now)
        .on_conflict_do_nothing()
    )
    return LOCAL_TENANT


def insert_api_key(
    session: Session,
    *,
    tenant_id: str,
    key_sha256: str,
    label: str,
    now: datetime,
    scopes: Sequence[Scope] = DEFAULT_SCOPES,
    expires_at: datetime | None = None,
) -> str:
    """Let the holder of a key act for a tenant; returns the id by which to revoke it."""
    key_id = f"key_{uuid_utils.uuid7().hex}"
    session.add(
        ApiKey(
            id=key_id,
            tenant_id=tenant_id,
            key_sha256=key_sha256,
            label=label,
            scopes=[scope.value for scope in Scope if scope in scopes],
            created_at=now,
            expires_at=expires_at,
        )
    )
    session.flush()
    return key_id


def find_key(session: Session, *, key_sha256: str, now: datetime) -> ApiKey | None:
    """The key behind a secret; None when the secret is unknown or the key no longer in force.

    The use is noted in `last_used_at`, which is late by up to a minute.
    """
    is_previous = and_(ApiKey.previous_sha256 == key_sha256, ApiKey.previous_until > now)
    key = session.scalar(
        select(ApiKey).where(or_(ApiKey.key_sha256 == key_sha256, is_previous), _in_force(now))
    )
    if key is not None and (key.last_used_at is None or key.last_used_at < now - _USE_STEP):
        session.execute(
            update(ApiKey)
            .where(
                ApiKey.id == key.id,
                func.coalesce(ApiKey.last_used_at < now - _USE_STEP, True),
            )
            .values(last_used_at=now)
            .execution_options(synchronize_session=False)
        )
    return key


def get_key(session: Session, tenant_id: str, key_id: str) -> ApiKey | None:
    """The tenant's key, in force or not; None when there is none, or it is another tenant's."""
    return session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.tenant_id == tenant_id))


def list_keys(session: Session, tenant_id: str | None = None) -> list[ApiKey]:
    """Keys that were not revoked, of one tenant or of all, oldest first."""
    statement = select(ApiKey).where(ApiKey.revoked_at.is_(None))
    if tenant_id is not None:
        statement = statement.where(ApiKey.tenant_id == tenant_id)
    return list(session.scalars(statement.order_by(ApiKey.created_at, ApiKey.id)))


def count_keys(session: Session, tenant_id: str) -> int:
    """How many keys of the tenant were not revoked; nobody adds one until the transaction ends."""
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    return session.scalars(
        select(func.count())
        .select_from(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.revoked_at.is_(None))
    ).one()


def rotate_key(
    session: Session, key_id: str, *, key_sha256: str, grace: timedelta, now: datetime
) -> ApiKey | None:
    """Give a key another secret; None when it is not in force.

    The secret before stays good for `grace`. One from an earlier rotation ends at once.
    """
    return session.scalar(
        update(ApiKey)
        .where(ApiKey.id == key_id, _in_force(now))
        .values(
            key_sha256=key_sha256,
            previous_sha256=ApiKey.key_sha256,
            previous_until=now + grace,
        )
        .returning(ApiKey)
        .execution_options(populate_existing=True)
    )


def revoke_api_key(session: Session, key_id: str, *, now: datetime) -> bool:
    """Refuse a key from now on; False when it is unknown or was revoked before."""
    revoked = session.scalar(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=now)
        .returning(ApiKey.id)
    )
    return revoked is not None


def _in_force(now: datetime) -> ColumnElement[bool]:
    return and_(
        ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)
    )


def find_idempotency_key(session: Session, *, tenant_id: str, key: str) -> IdempotencyKey | None:
    """The submission that first used the key; None when it is free."""
    return session.get(IdempotencyKey, (tenant_id, key), populate_existing=True)


def claim_idempotency_key(
    session: Session,
    *,
    tenant_id: str,
    key: str,
    request_sha256: str,
    job_id: str,
    now: datetime,
) -> IdempotencyKey | None:
    """Take the key for a job that this transaction inserted; None when it was free.

    Otherwise the earlier claim is returned and the caller rolls its own job back. A claim that
    another transaction has not committed yet is waited for, so of concurrent retries exactly one
    submits: claim right after the job's row, before its problems.
    """
    claimed = session.scalar(
        insert(IdempotencyKey)
        .values(
            tenant_id=tenant_id,
            key=key,
            request_sha256=request_sha256,
            job_id=job_id,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if claimed is not None:
        return None
    return find_idempotency_key(session, tenant_id=tenant_id, key=key)
