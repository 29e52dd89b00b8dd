"""What several commands do around a request: read problems, find the model, write a file."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

from api.client.client import Client
from api.client.errors import SlacklineError

Item = TypeVar("Item")


def standard_input() -> list[Any]:
    """Problems piped in as JSON Lines.

    Raises:
        SlacklineError: A line is not JSON.
    """
    problems = []
    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            try:
                problems.append(json.loads(line))
            except ValueError as error:
                raise SlacklineError(f"Line {number} is not valid JSON: {error}.") from None
    return problems


def only_model(client: Client) -> str:
    """The one model that the workers serve.

    Raises:
        SlacklineError: There are none or several.
    """
    models = sorted({worker["model"] for worker in client.workers()})
    if len(models) != 1:
        raise SlacklineError(f"Choose a model with --model; known: {', '.join(models) or 'none'}.")
    return models[0]


@contextmanager
def output(path: Path | None, items: Iterable[Item]) -> Iterator[tuple[TextIO, Iterable[Item]]]:
    """The file to write, or the screen, and the items.

    The first item is awaited before the file is touched, so a refusal leaves it as it was.
    """
    rest = iter(items)
    found = chain(list(islice(rest, 1)), rest)
    if path is None:
        yield sys.stdout, found
        return
    try:
        stream = path.open("w", encoding="utf-8")
    except OSError as error:
        raise SlacklineError(f"Cannot write {path}: {error.strerror}.") from None
    with stream:
        yield stream, found


def utc(at: datetime | None) -> datetime | None:
    """An instant typed without an offset is UTC."""
    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
