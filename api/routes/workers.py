"""The workers that serve."""

from fastapi import APIRouter

from api.auth import Caller
from api.dependencies import Sessions, utc_now
from api.schemas.reports import WorkerList
from api.views import worker_view
from db import workers
from db.session import transaction

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", summary="List workers")
def list_workers(_caller: Caller, sessions: Sessions) -> WorkerList:
    """Every worker that ever registered, with its last sign of life."""
    now = utc_now()
    with transaction(sessions) as session:
        return WorkerList(data=[worker_view(w, now) for w in workers.list_workers(session)])
