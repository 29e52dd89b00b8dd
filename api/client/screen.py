"""What a command writes: for people or, with `--json`, for programs."""

import json
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TextIO, TypeVar

import typer
from rich.console import Console, RenderableType

from api.client.errors import SlacklineError

Item = TypeVar("Item")


class ExitCode(IntEnum):
    """How a command ended; programs may rely on the numbers."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    REFUSED = 3
    MISSED_DEADLINE = 4
    NOT_COMPLETED = 5
    INTERRUPTED = 130

    @staticmethod
    def of(error: SlacklineError) -> "ExitCode":
        """The code of a failure: a refusal is sound input that is not admitted now."""
        is_refusal = error.code == "deadline_infeasible" or error.status == 429
        return ExitCode.REFUSED if is_refusal else ExitCode.ERROR


class Screen:
    """Standard output and standard error of one command.

    With `as_json` standard output gets nothing but JSON, one object per line, and standard error
    nothing but the envelope `{"error": {...}}` of a failure.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, found: Item, view: Callable[[Item], RenderableType]) -> None:
        """What was asked for, as one line of JSON or drawn for people."""
        if self.as_json:
            self.write(found)
            return
        drawn = view(found)
        if isinstance(drawn, str):
            # As it is: a console would break lines and take brackets for markup.
            typer.echo(drawn)
        else:
            Console().print(drawn)

    def write(self, value: Any, stream: TextIO | None = None) -> None:
        """One line of JSON, whoever reads it."""
        typer.echo(json.dumps(value), file=stream)

    def console(self) -> Console:
        """For progress, which programs are spared; it stays out of standard output."""
        return Console(stderr=True, quiet=self.as_json)

    def remark(self, text: str) -> None:
        """A line beside the output, for people only."""
        if not self.as_json:
            typer.echo(text, err=True)

    def fail(self, error: SlacklineError) -> None:
        """Say why the command failed: one line, or the envelope."""
        if self.as_json:
            typer.echo(json.dumps(error.envelope()), err=True)
        else:
            typer.echo(f"Error: {' '.join(error.message.split())}", err=True)
