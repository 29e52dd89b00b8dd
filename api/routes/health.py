"""Whether this process lives and whether it can serve."""

from fastapi import APIRouter

from api.dependencies import Settings
from api.errors import ApiError
from api.schemas.operations import ErrorOut, HealthOut
from db import migrate

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="This process answers")
def healthz() -> HealthOut:
    """Answer without touching the store."""
    return HealthOut()


@router.get(
    "/readyz",
    summary="The store answers and is migrated",
    responses={503: {"model": ErrorOut, "description": "Not ready; `message` says why."}},
)
def readyz(settings: Settings) -> HealthOut:
    """Answer once submissions can be stored."""
    revision = migrate.current(settings.database_url)
    if revision != migrate.head():
        raise ApiError(
            503,
            "not_migrated",
            f"The database is at revision {revision or 'none'}, this release needs"
            f" {migrate.head()}. Run 'slackline migrate'.",
        )
    return HealthOut()
