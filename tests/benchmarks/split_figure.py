"""Draws the figure of `split.py`: accuracy against deadline, one panel per model and data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def draw(runs: Sequence[Sequence[Record]], path: Path) -> None:
    """Not drawn yet."""
    raise NotImplementedError(str((len(runs), path)))
