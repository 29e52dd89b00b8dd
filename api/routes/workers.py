"""The workers that serve."""

from fastapi import APIRouter

from api.auth import Caller
from api.dependencies import Sessions, Settings, utc_now
from api.schemas.reports import WorkerList
from api.views import worker_view
from db import workers
from db.session import transaction

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", summary="List workers")
def list_workers(_caller: Caller, settings: Settings, sessions: Sessions) -> WorkerList:
    """Every worker that ever registered, with its last sign of life."""
    now, timeout_s = utc_now(), settings.scheduler.worker_timeout_s
    with transaction(sessions) as session:
        found = workers.list_workers(session)
    return WorkerList(data=[worker_view(worker, now, timeout_s=timeout_s) for worker in found])
