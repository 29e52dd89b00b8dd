"""What every command does around its request: connect, read, write, and fail in one line."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

import typer
from rich.console import Console, RenderableType

from api.client.client import Client
from api.client.errors import SlacklineError

_RETRY_FOR_S = 3.0
"""Someone sits in front of a command: give up on a server that is down sooner than a program."""

Item = TypeVar("Item")


@contextmanager
def connected(url: str, api_key: str) -> Iterator[Client]:
    """A client; a failure inside is one line on stderr and exit code 1."""
    try:
        with Client(url, api_key, retry_for_s=_RETRY_FOR_S) as client:
            yield client
    except SlacklineError as error:
        typer.echo(f"Error: {' '.join(error.message.split())}", err=True)
        raise typer.Exit(1) from None


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


def write_json(value: Any, stream: TextIO | None = None) -> None:
    """One line of JSON."""
    print(json.dumps(value), file=stream or sys.stdout, flush=True)


def show(found: Item, view: Callable[[Item], RenderableType], *, as_json: bool) -> None:
    """What was asked for, as one line of JSON or drawn for people."""
    if as_json:
        write_json(found)
    else:
        Console().print(view(found))


def utc(at: datetime | None) -> datetime | None:
    """An instant typed without an offset is UTC."""
    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC)
