"""Batches: create, list, read, cancel, as the OpenAI API has them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api.auth import Caller
from api.body import ReceivedJson
from api.dependencies import Sessions, Settings, utc_now
from api.errors import ApiError, invalid
from api.openai.clerk import Clerk
from api.openai.creation import new_batch
from api.openai.preview import check_feasible, check_rate
from api.openai.views import batch_views
from api.refusals import RefusedError
from api.replays import BY_CONTENT, BY_KEY, replayed_batch
from api.routes.jobs import IdempotencyKey
from api.schemas.batches import BatchIn, BatchOut, BatchPage
from api.schemas.openapi import body_of
from api.schemas.operations import ErrorOut
from api.verdicts import tell_refused
from db import wake
from db.admission import hold_request
from db.models import OpenaiBatch
from db.openai_batches import get_openai_batch, insert_openai_batch, list_openai_batches
from db.openai_endings import request_batch_cancel
from db.refusals import insert_refusal
from db.session import think_longer, transaction
from scheduler.core.states import OpenaiBatchState

router = APIRouter(prefix="/v1/batches", tags=["batches"])

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such batch of yours."}
}


def own_batch(session: Session, tenant_id: str, batch_id: str) -> OpenaiBatch:
    """The tenant's batch.

    Raises:
        ApiError: 404, also for another tenant's batch.
    """
    batch = None if "\0" in batch_id else get_openai_batch(session, tenant_id, batch_id)
    if batch is None:
        raise ApiError(404, None, f"No batch found with id '{batch_id[:100]}'.")
    return batch


@router.post(
    "",
    summary="Run a file of requests within a window",
    openapi_extra=body_of(BatchIn),
    responses={
        409: {"model": ErrorOut, "description": "The Idempotency-Key made another batch."},
        413: {"model": ErrorOut, "description": "The body is too large."},
        429: {"model": ErrorOut, "description": "Too many batches, or `deadline_infeasible`."},
    },
)
def create_batch(
    body: ReceivedJson,
    caller: Caller,
    settings: Settings,
    sessions: Sessions,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> BatchOut:
    """Store the batch; its file is read and admitted in the background."""
    now = utc_now()
    batch = new_batch(body, settings, tenant_id=caller, idempotency_key=idempotency_key, now=now)
    try:
        with transaction(sessions) as session:
            hold_request(session, f"{caller} {batch.request_sha256}")
            stored = None
            if idempotency_key is None and _is_retry(request):
                stored = replayed_batch(session, batch, settings)
            stored = stored or insert_openai_batch(session, batch)
            if stored.request_sha256 != batch.request_sha256:
                raise ApiError(
                    409,
                    "idempotency_key_reused",
                    f"This Idempotency-Key belongs to another request, which made {stored.id}. Use"
                    " a new key for a new request.",
                    param="Idempotency-Key",
                )
            if stored.id == batch.id:
                check_rate(session, stored, settings)
                think_longer(session)
                check_feasible(session, stored, settings, now=now)
            (view,) = batch_views(session, [stored])
    except RefusedError as refused:
        with transaction(sessions) as session:
            insert_refusal(session, refused.job, refused.rejected)
        tell_refused(refused)
        raise refused.error from None
    if stored.id != batch.id:
        response.headers["Idempotent-Replayed"] = BY_KEY if idempotency_key else BY_CONTENT
    clerk: Clerk = request.app.state.clerk
    clerk.wake()
    return view


def _is_retry(request: Request) -> bool:
    """Whether the official client says that it sends a request again; it sends no key with it."""
    return request.headers.get("x-stainless-retry-count", "0") != "0"


@router.get("", summary="List batches, newest first")
def list_batches(
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
) -> BatchPage:
    """A page of your batches."""
    with transaction(sessions) as session:
        cursor = None
        if after is not None:
            cursor = None if "\0" in after else get_openai_batch(session, caller, after)
            if cursor is None:
                raise invalid("after", "No batch found with the id in 'after'. Pass a batch's id.")
        found = list_openai_batches(session, caller, limit=limit + 1, after=cursor)
        data = batch_views(session, found[:limit])
    return BatchPage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/{batch_id}", summary="Read a batch", responses=_NOT_FOUND)
def read_batch(batch_id: str, caller: Caller, sessions: Sessions) -> BatchOut:
    """Status, counts and files as they stand."""
    with transaction(sessions) as session:
        (view,) = batch_views(session, [own_batch(session, caller, batch_id)])
    return view


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    responses={**_NOT_FOUND, 409: {"model": ErrorOut, "description": "The batch has ended."}},
)
def cancel_batch(batch_id: str, caller: Caller, sessions: Sessions, request: Request) -> BatchOut:
    """Stop a batch and keep its answers; cancelling twice is no error."""
    with transaction(sessions) as session:
        asked = request_batch_cancel(session, caller, batch_id, now=utc_now())
        batch = own_batch(session, caller, batch_id)
        if not asked and batch.state not in (
            OpenaiBatchState.CANCELLING,
            OpenaiBatchState.CANCELLED,
        ):
            raise ApiError(
                409,
                None,
                f"Cannot cancel a batch with status '{batch.state}'.",
                headers={"x-should-retry": "false"},
            )
        if asked:
            wake.notify(session)
        (view,) = batch_views(session, [batch])
    clerk: Clerk = request.app.state.clerk
    clerk.wake()
    return view
