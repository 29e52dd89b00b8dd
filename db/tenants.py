"""Tenants as the operator sees and sets them, and their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db.models import ApiKey, Tenant
from db.quotas import queued_jobs


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """A tenant and what it has on the server now."""

    id: str
    name: str
    weight: float
    max_queued_tokens: int | None
    queued_tokens: float
    num_live_jobs: int
    num_keys: int


def list_tenants(session: Session) -> list[TenantLoad]:
    """All tenants, oldest first. Keys that were revoked do not count."""
    num_keys = (
        select(func.count())
        .where(ApiKey.tenant_id == Tenant.id, ApiKey.revoked_at.is_(None))
        .scalar_subquery()
    )
    rows = session.execute(select(Tenant, num_keys).order_by(Tenant.created_at, Tenant.id)).all()
    found = []
    for tenant, keys in rows:
        jobs = queued_jobs(session, tenant.id)
        found.append(
            TenantLoad(
                id=tenant.id,
                name=tenant.name,
                weight=tenant.weight,
                max_queued_tokens=tenant.max_queued_tokens,
                queued_tokens=sum(job.tokens for job in jobs),
                num_live_jobs=len(jobs),
                num_keys=keys,
            )
        )
    return found


def tenant_name(session: Session, tenant_id: str) -> str:
    """What people call an existing tenant."""
    return session.scalars(select(Tenant.name).where(Tenant.id == tenant_id)).one()


def set_tenant(session: Session, tenant_id: str, changes: Mapping[str, Any]) -> bool:
    """Set columns of a tenant; False when there is none with this id."""
    changed = session.scalar(
        update(Tenant).where(Tenant.id == tenant_id).values(changes).returning(Tenant.id)
    )
    return changed is not None
