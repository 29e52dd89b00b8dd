"""Reads the lines of a batch's file: what fails the batch, and what each line asks for."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import orjson

from api.openai.bodies import (
    CHAT,
    PROMPT_FIELDS,
    LineOptions,
    Prompt,
    json_kind,
    options_of,
    prompt_of,
)
from api.problem_source import ESCAPED_CHAR_BYTES, UTF8_BOM
from api.settings import ApiSettings
from db.files import read_chunk
from db.session import SessionFactory, transaction

_ENVELOPE_BYTES = 64 * 1024
"""What a line may need beside its prompt, its reference answer and its id."""
_REQUIRED = ("custom_id", "method", "url", "body")


class LineError(Exception):
    """A line that fails the whole batch.

    Attributes:
        data: `{code, message, param, line}`, as the batch shows it.
    """

    def __init__(self, line: int | None, code: str, message: str, param: str | None = None) -> None:
        message = message.replace("\0", "")  # Postgres has no NUL characters in JSON.
        super().__init__(message)
        self.data = {"code": code, "message": message, "param": param, "line": line}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the right form. `position` counts requests from 0, `number` lines from 1."""

    position: int
    number: int
    custom_id: str
    model: str
    body: dict[str, Any]

    def prompt(self, endpoint: str) -> Prompt:
        """The prompt.

        Raises:
            ApiError: 400; the line fails, the batch does not.
        """
        return prompt_of(self.body, endpoint)

    def options(self) -> LineOptions:
        """What it asks for beside its prompt.

        Raises:
            ApiError: 400; the line fails, the batch does not.
        """
        return options_of(self.body)


def max_line_bytes(settings: ApiSettings) -> int:
    """The longest line that a request within the limits can need."""
    chars = settings.max_prompt_chars + settings.max_reference_chars + settings.max_id_chars
    return ESCAPED_CHAR_BYTES * chars + _ENVELOPE_BYTES


def lines_of(file: BinaryIO, endpoint: str, settings: ApiSettings) -> Iterator[Line | LineError]:
    """Every line that is not blank, or why it fails the batch. Ids are not compared."""
    longest = max_line_bytes(settings)
    position = number = 0
    while raw := file.readline(longest + 1):
        number += 1
        if len(raw) > longest:
            yield LineError(number, "line_too_long", f"This line is longer than {longest:,} bytes.")
            return
        if number == 1:
            raw = raw.removeprefix(UTF8_BOM)
        if not raw.strip():
            continue
        try:
            yield _line(raw, position, number, endpoint, settings)
        except LineError as error:
            yield error
        position += 1


def _line(raw: bytes, position: int, number: int, endpoint: str, settings: ApiSettings) -> Line:
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        raise LineError(number, "invalid_json_line", "This line is not parseable as valid JSON.")
    for name in _REQUIRED:
        if request.get(name) is None:
            raise LineError(
                number,
                "missing_required_parameter",
                f"Missing required parameter: '{name}'.",
                name,
            )
    custom_id, body = request["custom_id"], request["body"]
    for name, kind, expected in (("custom_id", str, "a string"), ("body", dict, "an object")):
        if not isinstance(request[name], kind):
            raise LineError(
                number,
                "invalid_type",
                f"Invalid type for '{name}': expected {expected}, but got"
                f" {json_kind(request[name])} instead.",
                name,
            )
    if not 0 < len(custom_id) <= settings.max_id_chars or "\0" in custom_id:
        raise LineError(
            number,
            "invalid_value",
            f"Invalid value for 'custom_id': 1 to {settings.max_id_chars} characters without a NUL"
            " character are expected.",
            "custom_id",
        )
    if request["method"] != "POST":
        raise LineError(
            number,
            "invalid_value",
            f"Invalid value: '{str(request['method'])[:100]}'. Supported values are: 'POST'.",
            "method",
        )
    if request["url"] != endpoint:
        raise LineError(
            number,
            "invalid_url",
            "The URL provided for this request does not match the batch endpoint.",
            "url",
        )
    _check_body(body, number, endpoint)
    return Line(position, number, custom_id, body["model"], body)


def _check_body(body: dict[str, Any], number: int, endpoint: str) -> None:
    if body.get("stream") is True:
        raise LineError(
            number,
            "streaming_unsupported",
            "The request is for a streaming response, which batches do not have. Leave out"
            " 'stream'.",
            "body.stream",
        )
    model = body.get("model")
    if not isinstance(model, str) or not model or "\0" in model:
        raise LineError(
            number, "invalid_request", "You must provide a model parameter.", "body.model"
        )
    field = PROMPT_FIELDS[endpoint]
    if body.get(field) in (None, []):
        article = "a 'messages' list" if endpoint == CHAT else "a 'prompt'"
        raise LineError(number, "invalid_request", f"You must provide {article}.", f"body.{field}")


class _ChunkReader(io.RawIOBase):
    """A stored file, read front to back; each chunk in a transaction of its own."""

    def __init__(
        self, sessions: SessionFactory, file_id: str, on_chunk: Callable[[], None]
    ) -> None:
        super().__init__()
        self._on_chunk = on_chunk
        self._sessions = sessions
        self._file_id = file_id
        self._position = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
            with transaction(self._sessions) as session:
                self._held = memoryview(read_chunk(session, self._file_id, self._position))
            self._position += 1
            self._on_chunk()
        num_bytes = min(len(buffer), len(self._held))
        buffer[:num_bytes] = self._held[:num_bytes]
        self._held = self._held[num_bytes:]
        return num_bytes


def stored_file(
    sessions: SessionFactory, file_id: str, *, on_chunk: Callable[[], None] = lambda: None
) -> BinaryIO:
    """The bytes of a file from the beginning; `on_chunk` is called as they come."""
    reader = _ChunkReader(sessions, file_id, on_chunk)
    return cast(BinaryIO, io.BufferedReader(reader, 1 << 16))
