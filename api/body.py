"""Takes in the body of a request, never beyond its limit.

That of a submission is spooled to disk and has three forms: a JSON document, JSON Lines with
options in the query, and a multipart upload with options as form fields. The count of bytes is kept
here and not taken from `Content-Length`, which a chunked body does not have.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, TypeVar, cast

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from api.auth import Admin, Caller
from api.dependencies import Settings
from api.errors import ApiError, invalid, validation_error
from api.settings import ApiSettings

_LINES_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
Document = TypeVar("Document", bound=BaseModel)

_SPOOL_BYTES = 1 << 20
_MAX_FIELDS = 50
_FORMS = (
    "Send application/json, JSON Lines as application/x-ndjson, or a multipart/form-data upload"
    " with a part named 'file'."
)


@dataclass(frozen=True, slots=True)
class Body:
    """A received body.

    Attributes:
        file: The JSON document or the JSON Lines, at its beginning.
        is_lines: JSON Lines rather than one document.
        options: Query parameters and form fields.
    """

    file: BinaryIO
    is_lines: bool
    options: dict[str, Any]


async def receive_body(
    request: Request, settings: Settings, _authenticated: Caller
) -> AsyncIterator[Body]:
    """Receive the body after the key was checked; its file is gone after the response.

    Raises:
        ApiError: 413 for a body over its limit, 415 for another content type, 400 for an upload
            without a file or an option given twice.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    options = _once(request.query_params.multi_items())
    if content_type == "multipart/form-data":
        limited = Request(request.scope, _submission_limit(request, settings, is_json=False))
        async with limited.form(max_files=1, max_fields=_MAX_FIELDS) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise invalid("file", "The upload has no file. Send a part named 'file'.")
            fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
            yield Body(upload.file, True, _once([*options.items(), *fields]))
    elif content_type == "application/json" or content_type in _LINES_TYPES:
        is_json = content_type == "application/json"
        limited = Request(request.scope, _submission_limit(request, settings, is_json=is_json))
        # UploadFile moves writes to a thread once the spool has left memory.
        with SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
            spool = UploadFile(cast(BinaryIO, file))
            async for chunk in limited.stream():
                await spool.write(chunk)
            await spool.seek(0)
            yield Body(spool.file, not is_json, options)
    else:
        shown = f"'{content_type[:100]}'" if content_type else "a missing Content-Type"
        raise ApiError(415, "unsupported_media_type", f"Cannot read {shown}. {_FORMS}")


ReceivedBody = Annotated[Body, Depends(receive_body)]


async def receive_json(request: Request, settings: Settings, _authenticated: Caller) -> bytes:
    """Receive a small JSON document, not parsed yet, after the key was checked.

    Raises:
        ApiError: 413 for a body over its limit.
    """
    return await _small_body(request, settings)


async def receive_admin_json(request: Request, settings: Settings, _authenticated: Admin) -> bytes:
    """The same on a route that needs the scope `admin`."""
    return await _small_body(request, settings)


ReceivedJson = Annotated[bytes, Depends(receive_json)]
ReceivedAdminJson = Annotated[bytes, Depends(receive_admin_json)]


def read_object(body: bytes) -> dict[str, Any]:
    """A received JSON object, not checked yet.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(
            None,
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column"
            f" {error.colno}.",
            code="invalid_json",
        ) from None
    if not isinstance(document, dict):
        raise invalid(None, "The body must be a JSON object.", code="invalid_type")
    return document


def parse_json(body: bytes, kind: type[Document]) -> Document:
    """A received document in its form.

    Raises:
        ApiError: 400 that names what to change.
    """
    document = read_object(body)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False)) from None


async def _small_body(request: Request, settings: ApiSettings) -> bytes:
    limit = settings.max_json_bytes
    message = f"The body is larger than the {limit:,} bytes that are allowed."
    receive = limited_receive(request, limit, message, code="body_too_large")
    return await Request(request.scope, receive).body()


def _submission_limit(request: Request, settings: ApiSettings, *, is_json: bool) -> Receive:
    """`limited` for a problem set."""
    limit = min(settings.max_json_bytes, settings.max_body_bytes)
    if not is_json:
        limit = settings.max_body_bytes
    advice = "Split the problem set into several jobs."
    if is_json and limit < settings.max_body_bytes:
        advice = (
            f"Send up to {settings.max_body_bytes:,} bytes as JSON Lines (application/x-ndjson)."
        )
    return limited_receive(
        request,
        limit,
        f"The body is larger than the {limit:,} bytes that are allowed"
        f"{' for application/json' if is_json else ''}. {advice}",
        code="body_too_large",
    )


def limited_receive(request: Request, limit: int, message: str, *, code: str | None) -> Receive:
    """The request's `receive`, which raises a 413 once the body is over its limit in bytes."""
    too_large = ApiError(
        413,
        code,
        message,
        # The rest of the body is not read, so the connection cannot serve another request.
        headers={"Connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    is_too_large = declared.isdecimal() and int(declared[:20]) > limit
    num_bytes = 0

    async def receive() -> Message:
        nonlocal num_bytes
        if is_too_large:
            raise too_large
        message = await request.receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit:
            raise too_large
        return message

    return receive


def _once(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """A dict of the pairs, each name given once."""
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name in options:
            raise invalid(name[:100], f"The option '{name[:100]}' was given twice. Give it once.")
        options[name] = value
    return options
