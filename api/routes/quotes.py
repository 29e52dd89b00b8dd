"""Quotes: what each deadline would buy, without running anything."""

from fastapi import APIRouter

from api.auth import Caller
from api.body import ReceivedBody
from api.dependencies import Sessions, Settings, utc_now
from api.quotes import make_quote, read_quote_request
from api.schemas.operations import ErrorOut
from api.schemas.quotes import QuoteOut, openapi_request

router = APIRouter(prefix="/v1/quotes", tags=["quotes"])


@router.post(
    "",
    summary="Quote accuracy against deadline",
    openapi_extra=openapi_request(),
    responses={
        413: {"model": ErrorOut, "description": "Too many bytes or problems."},
        415: {"model": ErrorOut, "description": "Neither JSON, JSON Lines nor an upload."},
    },
)
def quote(body: ReceivedBody, caller: Caller, settings: Settings, sessions: Sessions) -> QuoteOut:
    """Earliest feasible finish and, per deadline, split, finish, accuracy and cost. No job is made.

    A submission with a quoted deadline at the same instant and load is promised the same.
    """
    request = read_quote_request(body, settings)
    return make_quote(sessions, request, tenant_id=caller, now=utc_now(), settings=settings)
