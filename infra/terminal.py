"""What `up` shows: one short line per event, prefixed with the child that said it."""

import json
import re
import time
from collections import Counter, deque
from pathlib import Path

from rich.console import Console
from rich.text import Text

MAX_LINE_CHARS = 160
"""Longer lines are cut on the terminal; the log file has them whole."""

MAX_LINES_PER_S = 10
"""Of each child. A store that is away makes every thread of every child say so."""

COLORS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")

LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d[T ]\S+\s+\[(?:info|debug)\s*\]\s+|^INFO:\s+")
"""Time and unremarkable level at the start of a text line; the log file has them."""


class Terminal:
    """Prints the supervisor's own lines and follows the children's log files."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._colors: dict[str, str] = {}
        self._offsets: dict[Path, int] = {}
        self._shown: dict[str, deque[float]] = {}
        self._num_hidden: Counter[str] = Counter()

    def say(self, name: str, line: str, *, is_ours: bool = True) -> None:
        """Print one line; lines of the supervisor itself are bold."""
        color = self._colors.setdefault(name, COLORS[len(self._colors) % len(COLORS)])
        text = Text.assemble((f"{name:<14}", color), " ", (line, "bold" if is_ours else ""))
        self._console.print(text, soft_wrap=True, highlight=False)

    def skip_to_end(self, log_path: Path) -> None:
        """Follow this log from here on, leaving out what earlier runs wrote."""
        self._offsets[log_path] = log_path.stat().st_size if log_path.exists() else 0

    def follow(self, name: str, log_path: Path) -> None:
        """Print the whole lines that were added to a log since the last look."""
        offset = self._offsets.setdefault(log_path, 0)
        with log_path.open("rb") as log:
            log.seek(offset)
            lines, separator, _ = log.read(1_000_000).rpartition(b"\n")
        if separator:
            self._offsets[log_path] = offset + len(lines) + 1
            for line in lines.decode(errors="replace").splitlines():
                self._show(name, short_line(line))

    def _show(self, name: str, line: str) -> None:
        """Print a child's line, unless it has said much within a second."""
        now = time.monotonic()
        shown = self._shown.setdefault(name, deque(maxlen=MAX_LINES_PER_S))
        if len(shown) == MAX_LINES_PER_S and now - shown[0] < 1.0:
            self._num_hidden[name] += 1
            return
        shown.append(now)
        if num_hidden := self._num_hidden.pop(name, 0):
            self.say(name, f"({num_hidden} more lines in its log)", is_ours=False)
        self.say(name, line, is_ours=False)


def short_line(line: str) -> str:
    """A log line for human eyes: JSON as `event key=value`, cut to `MAX_LINE_CHARS`."""
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            pass
        else:
            event = str(fields.pop("event", ""))
            for boring in ("timestamp", "level", "logger"):
                fields.pop(boring, None)
            line = " ".join([event, *(f"{key}={value}" for key, value in fields.items())])
    line = re.sub(r"\s{2,}", "  ", LOG_PREFIX.sub("", line))
    return line if len(line) <= MAX_LINE_CHARS else line[: MAX_LINE_CHARS - 1] + "…"
