"""Checks the request for a new batch: everything that its file does not decide."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import uuid_utils
from pydantic import ValidationError

from api.body import read_object
from api.deadlines import deadline_at
from api.errors import ApiError, invalid, validation_error
from api.openai.bodies import ENDPOINTS, json_kind
from api.schemas.batches import OPTIONS_PREFIX, BatchIn, BatchOptions
from api.settings import ApiSettings
from api.uploads import BATCH_FILE_LIFE_S
from db.openai_batches import NewOpenaiBatch
from db.tracing import current_traceparent

_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_MIN_WINDOW_S = 5.0
_WINDOWS = 'Supported values are: durations from "5s" to "7d" such as "90s", "10m", "2h" or "24h".'


def new_batch(
    body: bytes,
    settings: ApiSettings,
    *,
    tenant_id: str,
    idempotency_key: str | None,
    now: datetime,
) -> NewOpenaiBatch:
    """The batch that a request asks for.

    Raises:
        ApiError: 400 that names the first bad parameter.
    """
    request = _read(body)
    if request.endpoint not in ENDPOINTS:
        known = " and ".join(f"'{endpoint}'" for endpoint in ENDPOINTS)
        raise invalid(
            "endpoint",
            f"Invalid value: '{request.endpoint[:100]}'. Supported values are: {known}.",
        )
    expires_at = _window_end(request.completion_window, now, settings)
    options = _options(request, settings)
    canonical = orjson.dumps(request.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    output_life_s = BATCH_FILE_LIFE_S
    if request.output_expires_after is not None:
        output_life_s = request.output_expires_after.seconds
    return NewOpenaiBatch(
        id=f"batch_{uuid_utils.uuid7().hex}",
        tenant_id=tenant_id,
        idempotency_key=idempotency_key,
        request_sha256=hashlib.sha256(canonical).hexdigest(),
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        completion_window=request.completion_window,
        labels=request.metadata,
        options=options.model_dump(exclude_unset=True),
        output_expires_after_s=output_life_s,
        output_file_id=f"file-{uuid_utils.uuid7().hex}",
        error_file_id=f"file-{uuid_utils.uuid7().hex}",
        created_at=now,
        expires_at=expires_at,
        traceparent=current_traceparent(),
    )


def _read(body: bytes) -> BatchIn:
    document = read_object(body)
    try:
        return BatchIn.model_validate(document)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = errors[0]
        expected = _TYPES.get(first["type"])
        if expected is None:
            raise validation_error(errors) from None
        param = ".".join(str(part) for part in first["loc"])
        raise invalid(
            param,
            f"Invalid type for '{param}': expected {expected}, but got"
            f" {json_kind(first['input'])} instead.",
            code="invalid_type",
        ) from None


def _window_end(window: str, now: datetime, settings: ApiSettings) -> datetime:
    refusal = invalid("completion_window", f"Invalid value: '{window[:100]}'. {_WINDOWS}")
    if window[-1:] not in tuple("smhd"):
        # An instant is a deadline, but no window.
        raise refusal
    try:
        end = deadline_at(window, now, settings, "completion_window")
    except ApiError:
        raise refusal from None
    if end - now < timedelta(seconds=_MIN_WINDOW_S):
        raise refusal
    return end


def _options(request: BatchIn, settings: ApiSettings) -> BatchOptions:
    """Our options, from the body or from metadata; the body's win."""
    labels: Mapping[str, str] = request.metadata or {}
    wanted: dict[str, Any] = {
        key.removeprefix(OPTIONS_PREFIX): value
        for key, value in labels.items()
        if key.startswith(OPTIONS_PREFIX)
    }
    try:
        options = BatchOptions.model_validate(wanted)
    except ValidationError as error:
        raise validation_error(
            error.errors(include_url=False), prefix=f"metadata.{OPTIONS_PREFIX.rstrip('.')}"
        ) from None
    if request.slackline is not None:
        merged = [each.model_dump(exclude_unset=True) for each in (options, request.slackline)]
        options = BatchOptions.model_validate(merged[0] | merged[1])
    if options.max_branches > settings.max_branches:
        raise invalid(
            "slackline.max_branches",
            f"Invalid value for 'slackline.max_branches': at most {settings.max_branches} are"
            " allowed.",
        )
    return options
