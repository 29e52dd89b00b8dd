"""Problems as they were sent, one at a time and not checked yet, each with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import orjson

from api.errors import ApiError
from api.settings import ApiSettings

UTF8_BOM = b"\xef\xbb\xbf"
ESCAPED_CHAR_BYTES = 12
"""Longest JSON spelling of one character: two `\\uXXXX` escapes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a problem stands in the request; `line` is None in a JSON document."""

    index: int
    line: int | None = None

    def error(self, code: str, field: str, message: str) -> ApiError:
        """A 400 about a field of the problem here."""
        if self.line is None:
            param = f"problems[{self.index}].{field}"
            return ApiError(400, code, f"{param}: {message}", param=param)
        return ApiError(
            400, code, f"Line {self.line}: {message}", param=field, extra={"line": self.line}
        )


class ProblemSource(Protocol):
    """Problems as sent; every iteration starts from the beginning."""

    def __iter__(self) -> Iterator[tuple[Place, Any]]:
        """Yield each problem, not yet checked, with its place."""


@dataclass(frozen=True, slots=True)
class JsonList:
    """The `problems` of a JSON document."""

    problems: list[Any]

    def __iter__(self) -> Iterator[tuple[Place, Any]]:
        for index, problem in enumerate(self.problems):
            yield Place(index), problem


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of JSON Lines; blank lines and a byte order mark are skipped."""

    file: BinaryIO
    max_line_bytes: int

    def __iter__(self) -> Iterator[tuple[Place, Any]]:
        self.file.seek(0)
        index = 0
        number = 0
        while line := self.file.readline(self.max_line_bytes + 1):
            number += 1
            place = Place(index, number)
            if len(line) > self.max_line_bytes:
                raise place.error(
                    "line_too_long",
                    "line",
                    f"it is longer than {self.max_line_bytes:,} bytes. Put one problem on each"
                    " line.",
                )
            if number == 1:
                line = line.removeprefix(UTF8_BOM)
            if not line.strip():
                continue
            try:
                problem = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise place.error(
                    "invalid_json_line",
                    "line",
                    f"not valid JSON ({error.msg} at column {error.colno}). Put one object such"
                    ' as {"id": "p-1", "prompt": "..."} on each line.',
                ) from None
            yield place, problem
            index += 1


def lines_of(file: BinaryIO, settings: ApiSettings) -> JsonLines:
    """JSON Lines whose length is bounded by what a problem can need."""
    chars = settings.max_prompt_chars + settings.max_reference_chars + settings.max_id_chars
    chars += settings.max_submission_chars
    return JsonLines(file, ESCAPED_CHAR_BYTES * chars + 1024)
