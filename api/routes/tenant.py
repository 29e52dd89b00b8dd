"""Who the caller is."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth import Caller
from api.dependencies import Sessions
from db.session import transaction
from db.tenants import tenant_name

router = APIRouter(prefix="/v1/tenant", tags=["keys"])


class TenantOut(BaseModel):
    """A tenant as its own keys see it."""

    object: Literal["tenant"] = "tenant"
    id: str
    name: str


@router.get("", summary="Whose the key is")
def read_tenant(caller: Caller, sessions: Sessions) -> TenantOut:
    """The tenant whose jobs this key sees, and nobody else's."""
    with transaction(sessions) as session:
        return TenantOut(id=caller, name=tenant_name(session, caller))
