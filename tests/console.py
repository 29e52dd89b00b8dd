"""Runs the commands of a page of documentation as a reader would, in one shell.

A command stands behind `$ ` in a fenced block, up to the line on which the shell would run it. What
follows is its output, with `...` for what is left out. Ids differ from run to run: where the
page shows an id, later commands mean the one that this run has in its place.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

_ID = re.compile(r"\b(?:job|batch|wh|evt|key|file)[_-][0-9a-f]{32}\b")
_FIELD = re.compile(r'"(\w+)": ?')
_NAMED_ID = re.compile(_FIELD.pattern + f'"({_ID.pattern})"')
_FENCE = "```"
_LEFT_OUT = "..."
_TOKEN = re.compile(r'\.{3}|"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_END = "end-of-command"

# Keeps what was asked and how it was answered.
_CURL = """
curl() {{ printf '%s\\0' "$@" >{arguments}; command curl --dump-header {head} "$@"; }}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A command and the output that the page shows."""

    command: str
    output: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did here.

    Attributes:
        output: With standard error.
        status: Exit status.
        arguments: Of its last `curl`; empty without one.
        head: Of the last response to it.
    """

    step: Step
    output: str
    status: int
    arguments: tuple[str, ...]
    head: str


def steps_of(page: Path) -> Iterator[Step]:
    """The commands of a page in order."""
    is_inside = False
    command: list[str] = []
    output: list[str] = []
    for line in [*page.read_text().splitlines(), _FENCE]:
        is_fence = line.startswith(_FENCE)
        if is_inside and command and not output and _goes_on("\n".join(command)):
            command.append(line)
            continue
        if command and (is_fence or line.startswith("$ ")):
            yield Step("\n".join(command), "\n".join(output))
            command, output = [], []
        if is_fence:
            is_inside = not is_inside
        elif is_inside and line.startswith("$ "):
            command = [line.removeprefix("$ ")]
        elif command:
            output.append(line)


def _goes_on(command: str) -> bool:
    """Whether further lines belong to a command."""
    try:
        shlex.split(command)
    except ValueError:  # A quotation is open.
        return True
    return command.endswith("\\")


class Console:
    """A shell that remembers variables, and which id of the page is which of this run."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.folder = folder
        self._process = process
        self._arguments, self._head = folder / ".arguments", folder / ".head"
        self._ids: dict[str, str] = {}
        self._write(_CURL.format(arguments=self._arguments, head=self._head))

    @classmethod
    @contextmanager
    def open(cls, folder: Path, env: Mapping[str, str]) -> Iterator[Self]:
        """A shell in a folder, until the end of the block."""
        process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield cls(process, folder)
            finally:
                process.kill()  # A loop that waits in vain would not end by itself.

    def run(self, step: Step) -> Ran:
        """Run a command of the page."""
        command = self.with_ids_of_this_run(step.command)
        for file in (self._arguments, self._head):
            file.write_text("")
        self._write(f"{command}\nstatus=$?; echo; echo {_END} $status\n")
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            if line.startswith(_END):
                break
            lines.append(line)
        output = "".join(lines).strip("\n")
        real = _ids_by_field(output)
        for field, shown in _ids_by_field(step.output).items():
            self._ids.setdefault(shown, real.get(field, shown))
        return Ran(
            step,
            output,
            status=int(line.removeprefix(_END)),
            arguments=tuple(self._arguments.read_text().split("\0")[:-1]),
            head=self._head.read_text(),
        )

    def with_ids_of_this_run(self, text: str) -> str:
        """A text of the page with the ids that this run has in the place of its own."""
        return _ID.sub(lambda found: self._ids.get(found[0], found[0]), text)

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()


def missing_fields(ran: Ran) -> set[str]:
    """Names of JSON fields that the page shows and that did not come here."""
    return set(_FIELD.findall(ran.step.output)) - set(_FIELD.findall(ran.output))


def shown_again(shown: str, output: str) -> str:
    """What a page that shows one output shows of another, with the same parts left out.

    Lists show their first items. Texts that end in `...`, as secrets do, stay.

    Raises:
        LookupError: The output has not all that is shown.
    """
    lines = []
    real = output.splitlines()
    for number, line in enumerate(shown.splitlines()):
        if line == _LEFT_OUT:
            lines.append(line)
            break
        head, brace, rest = real[number].partition("{")
        if _LEFT_OUT not in line:
            lines.append(real[number])
        else:
            tokens = iter(_TOKEN.findall(line[line.index("{") :]))
            lines.append(head + _value_again(tokens, json.loads(brace + rest)))
    return "\n".join(lines)


def _value_again(tokens: Iterator[str], value: Any) -> str:
    """The JSON value that begins with the next token, with what is shown of it from `value`."""
    opened = next(tokens)
    if opened.endswith((_LEFT_OUT, f'{_LEFT_OUT}"')):
        return opened
    if opened not in ("{", "["):
        return json.dumps(value, ensure_ascii=False)
    parts = []
    num_items = 0
    while (token := next(tokens)) not in ("}", "]"):
        if token == _LEFT_OUT:
            parts.append(token)
        elif token != "," and opened == "{":
            assert next(tokens) == ":"
            parts.append(f"{token}:{_value_again(tokens, value[json.loads(token)])}")
        elif token != ",":
            parts.append(_value_again(chain([token], tokens), value[num_items]))
            num_items += 1
    return opened + ",".join(parts) + token


def _ids_by_field(output: str) -> dict[str, str]:
    """The first id under each name."""
    return dict(reversed(_NAMED_ID.findall(output)))
