"""Files: upload, list, read, download, delete, as the OpenAI API has them."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import uuid_utils
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from api.auth import Caller
from api.dependencies import Sessions, Settings, utc_now
from api.downloads import range_of, stored_bytes, total_bytes
from api.errors import ApiError, invalid
from api.openai.output import partial_lines
from api.openai.requests import max_line_bytes
from api.openai.views import file_view, partial_file_view
from api.schemas.files import FileDeleted, FileOut, FilePage, UploadPurpose
from api.schemas.operations import ErrorOut
from api.uploads import ReceivedUpload, check_batch_file
from db.files import NewFile, delete_file, get_file, list_files, store_file
from db.openai_batches import batch_of_file
from db.session import transaction

router = APIRouter(prefix="/v1/files", tags=["files"])

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorOut, "description": "No such file of yours."}
}
_LINES = "application/jsonl"
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "properties": {
                        "purpose": {"type": "string", "enum": [p.value for p in UploadPurpose]},
                        "file": {"type": "string", "format": "binary"},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": 3_600,
                            "maximum": 2_592_000,
                        },
                    },
                }
            }
        },
    }
}


def no_file(file_id: str) -> ApiError:
    """A 404; also the answer for another tenant's file."""
    return ApiError(404, None, f"No such File object: {file_id[:100]}", param="id")


@router.post(
    "",
    summary="Upload a file",
    openapi_extra=_UPLOAD,
    responses={
        413: {"model": ErrorOut, "description": "The file is too large."},
        415: {"model": ErrorOut, "description": "Not a form."},
    },
)
def upload_file(
    upload: ReceivedUpload, caller: Caller, settings: Settings, sessions: Sessions
) -> FileOut:
    """Store a file. One for a batch is checked as a whole when a batch is created with it."""
    if upload.purpose is UploadPurpose.BATCH:
        check_batch_file(upload, max_line_bytes(settings))
    now = utc_now()
    life_s = upload.expires_after_s
    file = NewFile(
        id=f"file-{uuid_utils.uuid7().hex}",
        tenant_id=caller,
        purpose=upload.purpose,
        filename=upload.filename,
        created_at=now,
        expires_at=None if life_s is None else now + timedelta(seconds=life_s),
    )
    with transaction(sessions) as session:
        return file_view(store_file(session, file, upload.parts()))


@router.get("", summary="List files, newest first")
def list_own_files(
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(description="Only files of this purpose.")] = None,
) -> FilePage:
    """A page of your files."""
    now = utc_now()
    with transaction(sessions) as session:
        cursor = None
        if after is not None and "\0" not in after:
            cursor = get_file(session, caller, after, now=now)
        if after is not None and cursor is None:
            raise invalid("after", "No file found with the id in 'after'. Pass a file's id.")
        found = list_files(
            session,
            caller,
            now=now,
            limit=limit + 1,
            after=cursor,
            purpose=purpose,
            ascending=order == "asc",
        )
    data = [file_view(file) for file in found[:limit]]
    return FilePage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/{file_id}", summary="Read what is known of a file", responses=_NOT_FOUND)
def read_file(file_id: str, caller: Caller, sessions: Sessions) -> FileOut:
    """Its name, size and purpose. Of a file that a batch still writes, what there is so far."""
    with transaction(sessions) as session:
        file = get_file(session, caller, _known(file_id), now=utc_now())
        batch = None if file else batch_of_file(session, caller, _known(file_id))
    if file is not None:
        return file_view(file)
    if batch is None:
        raise no_file(file_id)
    return partial_file_view(batch, file_id, total_bytes(partial_lines(sessions, batch, file_id)))


@router.get(
    "/{file_id}/content",
    summary="Download a file",
    response_class=StreamingResponse,
    responses={
        200: {"content": {_LINES: {}, "application/octet-stream": {}}, "description": "Its bytes."},
        206: {"description": "The range that was asked for."},
        416: {"model": ErrorOut, "description": "The range lies behind the end."},
        **_NOT_FOUND,
    },
)
def download_file(
    file_id: str,
    caller: Caller,
    sessions: Sessions,
    wanted: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
) -> StreamingResponse:
    """The bytes of a file; `X-Incomplete: true` says that a batch still writes it."""
    with transaction(sessions) as session:
        file = get_file(session, caller, _known(file_id), now=utc_now())
        batch = None if file else batch_of_file(session, caller, _known(file_id))
    if file is None:
        if batch is None:
            raise no_file(file_id)
        lines = partial_lines(sessions, batch, file_id)
        return StreamingResponse(lines, media_type=_LINES, headers={"X-Incomplete": "true"})
    found = range_of(wanted, file.num_bytes)
    first, last = found or (0, file.num_bytes - 1)
    headers = {"Content-Length": str(last - first + 1), "Accept-Ranges": "bytes"}
    if found:
        headers["Content-Range"] = f"bytes {first}-{last}/{file.num_bytes}"
    return StreamingResponse(
        stored_bytes(sessions, file.id, first, last),
        206 if found else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


@router.delete("/{file_id}", summary="Delete a file", responses=_NOT_FOUND)
def delete_own_file(file_id: str, caller: Caller, sessions: Sessions) -> FileDeleted:
    """Delete a file. Batches that have read it go on."""
    with transaction(sessions) as session:
        if not delete_file(session, caller, _known(file_id), now=utc_now()):
            raise no_file(file_id)
    return FileDeleted(id=file_id)


def _known(file_id: str) -> str:
    """An id that may exist: Postgres refuses text with NUL characters."""
    if "\0" in file_id:
        raise no_file(file_id.replace("\0", ""))
    return file_id
