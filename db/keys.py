"""Who may submit: tenants, API keys known by their SHA-256 only, idempotency keys."""

import hashlib
import secrets
from datetime import datetime

import uuid_utils
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import ApiKey, IdempotencyKey, Tenant

LOCAL_TENANT = "ten_local"
"""Tenant of the embedded mode."""


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
    session: Session, *, tenant_id: str, key_sha256: str, label: str, now: datetime
) -> str:
    """Let the holder of a key act for a tenant; returns the id by which to revoke it."""
    key_id = f"key_{uuid_utils.uuid7().hex}"
    session.add(
        ApiKey(id=key_id, tenant_id=tenant_id, key_sha256=key_sha256, label=label, created_at=now)
    )
    session.flush()
    return key_id


def find_tenant(session: Session, *, key_sha256: str) -> str | None:
    """Tenant behind a key; None when the key is unknown or revoked."""
    return session.scalar(
        select(ApiKey.tenant_id).where(ApiKey.key_sha256 == key_sha256, ApiKey.revoked_at.is_(None))
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
