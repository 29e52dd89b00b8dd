"""Takes in an uploaded file, spooled to disk and then in chunks to the store."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from api.auth import Caller
from api.body import limited_receive
from api.dependencies import Settings
from api.errors import ApiError, invalid, validation_error
from api.problem_source import UTF8_BOM
from api.schemas.files import UploadPurpose
from api.settings import ApiSettings

_FORM_BYTES = 64 * 1024
"""What a form may need beside its file."""
_MAX_FIELDS = 10
_PART_BYTES = 1 << 20
_MAX_NAME_CHARS = 512
BATCH_FILE_LIFE_S = 30 * 86_400
"""How long a file for a batch, or of one, is kept unless the client says otherwise."""


class UploadOptions(BaseModel):
    """The form fields beside the file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    purpose: UploadPurpose
    anchor: str | None = Field(None, alias="expires_after[anchor]", pattern="^created_at$")
    seconds: int | None = Field(None, alias="expires_after[seconds]", ge=3_600, le=2_592_000)


@dataclass(frozen=True, slots=True)
class Upload:
    """A received file, at its beginning."""

    file: BinaryIO
    filename: str
    purpose: UploadPurpose
    expires_after_s: int | None

    def parts(self) -> Iterator[bytes]:
        """Its bytes from the beginning."""
        self.file.seek(0)
        while part := self.file.read(_PART_BYTES):
            yield part


async def receive_upload(
    request: Request, settings: Settings, _authenticated: Caller
) -> AsyncIterator[Upload]:
    """Receive an upload after the key was checked; its file is gone after the response.

    Raises:
        ApiError: 413 for a file over its limit, 415 for what is no form, 400 for a form without a
            file or a bad field.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "multipart/form-data":
        raise ApiError(
            415,
            "unsupported_media_type",
            "Send multipart/form-data with the fields 'purpose' and 'file'.",
        )
    limit = settings.max_file_bytes
    receive = limited_receive(request, limit + _FORM_BYTES, _too_large("file", limit), code=None)
    form_of = Request(request.scope, receive)
    async with form_of.form(max_files=1, max_fields=_MAX_FIELDS) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise invalid("file", "The upload has no file. Send a part named 'file'.")
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        options = _options(fields)
        num_bytes = upload.size or 0
        _check_size(num_bytes, options.purpose, settings)
        filename = (upload.filename or "upload").replace("\0", "")[:_MAX_NAME_CHARS]
        seconds = options.seconds
        if seconds is None and options.purpose is UploadPurpose.BATCH:
            seconds = BATCH_FILE_LIFE_S
        yield Upload(upload.file, filename, options.purpose, seconds)


ReceivedUpload = Annotated[Upload, Depends(receive_upload)]


def check_batch_file(upload: Upload, max_line_bytes: int) -> None:
    """Refuse what cannot be a batch: the first line that is not blank must be a JSON object.

    Raises:
        ApiError: 400.
    """
    upload.file.seek(0)
    is_first = True
    while line := upload.file.readline(max_line_bytes):
        if is_first:
            line = line.removeprefix(UTF8_BOM)
            is_first = False
        if line.strip():
            try:
                if isinstance(orjson.loads(line), dict):
                    return
            except orjson.JSONDecodeError:
                pass
            raise _not_lines("the first line is not a JSON object")
    raise _not_lines("the file is empty")


def _not_lines(why: str) -> ApiError:
    return ApiError(
        400,
        None,
        f"Invalid file format for Batch API. Must be .jsonl: {why}. Put one request such as"
        ' {"custom_id": "p-1", "method": "POST", "url": "/v1/chat/completions", "body": {...}} on'
        " each line.",
        param="file",
    )


def _options(fields: dict[str, str]) -> UploadOptions:
    try:
        options = UploadOptions.model_validate(fields)
    except ValidationError as error:
        if error.errors()[0]["type"] == "enum":
            known = ", ".join(f"'{purpose}'" for purpose in UploadPurpose)
            raise invalid(
                "purpose",
                f"Invalid value: '{fields['purpose'][:100]}'. Supported values are: {known}.",
            ) from None
        raise validation_error(error.errors(include_url=False)) from None
    if (options.anchor is None) != (options.seconds is None):
        raise invalid(
            "expires_after",
            "Give both expires_after[anchor]=created_at and expires_after[seconds], or neither.",
        )
    return options


def _check_size(num_bytes: int, purpose: UploadPurpose, settings: ApiSettings) -> None:
    limit, what = settings.max_file_bytes, "file"
    if purpose is UploadPurpose.BATCH:
        limit, what = min(limit, settings.max_batch_file_bytes), "batch input file"
    if num_bytes > limit:
        raise ApiError(413, None, _too_large(what, limit), param="file")


def _too_large(what: str, limit: int) -> str:
    return (
        f"The {what} is larger than the {limit} maximum for an upload. Split it into several files."
    )
