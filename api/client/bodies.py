"""Bodies of requests: problems from a file or from memory, and deadlines in the server's words."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from api.client.errors import SlacklineError
from api.client.requests import Content
from api.client.shapes import Problem

Deadline = str | timedelta | datetime
"""`"90s"`, `"10m"`, `"2h"`, `"1d"`, an RFC 3339 time, a duration from now, or an aware instant."""

_CHUNK_BYTES = 1 << 16


def deadline_text(deadline: Deadline) -> str:
    """A deadline as the server reads it."""
    if isinstance(deadline, timedelta):
        return f"{deadline.total_seconds():f}s"
    if isinstance(deadline, datetime):
        return deadline.isoformat()
    return deadline


def grading_text(grading: str | Mapping[str, Any] | None) -> str | None:
    """A grading as an option of the query: the method's name alone, or JSON."""
    return grading if grading is None or isinstance(grading, str) else json.dumps(grading)


def stop_text(stop: str | Sequence[str] | None) -> str | None:
    """Stop strings as an option of the query: JSON."""
    if not stop:
        return None
    return json.dumps([stop] if isinstance(stop, str) else list(stop))


def json_lines(problems: Path | Iterable[Problem | str]) -> Content:
    """Makes the body as JSON Lines, afresh for every attempt."""
    if isinstance(problems, Path):
        if problems.suffix != ".json":
            path = problems
            return lambda: _chunks(path)
        problems = _problems_of_document(problems)
    objects: list[Any] = [{"prompt": p} if isinstance(p, str) else p for p in problems]
    body = "".join(json.dumps(problem) + "\n" for problem in objects).encode()
    return lambda: body


def _chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes; it is open only while an attempt reads it."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise SlacklineError(f"Cannot read {path}: {error.strerror}.", code="file_error") from None


def _problems_of_document(path: Path) -> list[Any]:
    """The list in a JSON file, or its `problems`."""
    try:
        document = json.loads(b"".join(_chunks(path)))
    except ValueError as error:
        raise SlacklineError(f"{path} is not valid JSON: {error}.", code="file_error") from None
    problems = document.get("problems") if isinstance(document, dict) else document
    if not isinstance(problems, list):
        raise SlacklineError(
            f"{path} holds no list of problems; write a list, or an object with 'problems'.",
            code="file_error",
        )
    return problems
