"""The child's side of comparing answers: algebra in a process that can be killed at any moment."""

import logging
import os
import resource
import signal
import threading
import time
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

_CHILD_MEMORY_BYTES = 2 * 1024**3


class Tolerance(NamedTuple):
    """How far a number may be off: the larger of `absolute` and `relative` times the reference."""

    absolute: float
    relative: float


class Pair(NamedTuple):
    """Two answers to compare.

    Attributes:
        right: The reference, where there is one.
        tolerance: Compare as numbers within it; None compares meanings.
    """

    left: str
    right: str
    tolerance: Tolerance | None = None


class Finding(StrEnum):
    """What a comparison found."""

    SAME_TEXT = "same text"
    SAME_NUMBER = "same number"
    SAME_VALUE = "same value"
    DIFFERENT = "different"
    NO_NUMBER = "no number"
    TOO_LONG = "too long"
    TIMED_OUT = "timed out"
    NOT_TRIED = "not tried"
    FAILED = "failed"

    @property
    def is_same(self) -> bool:
        """Whether the two mean the same."""
        return self in (Finding.SAME_TEXT, Finding.SAME_NUMBER, Finding.SAME_VALUE)


def enter(parent_pid: int) -> None:
    """Tie the child's life to its parent's, bound its memory, and pay for the import."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_CHILD_MEMORY_BYTES, _CHILD_MEMORY_BYTES))
    threading.Thread(target=_follow_parent, args=(parent_pid,), daemon=True).start()
    # It would warn that its own time limits are off, as is meant.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # Decoding shares the cores and is worth more than a prompt comparison.
    os.nice(5)
    import math_verify  # noqa: F401  # loaded in children only


def _follow_parent(parent_pid: int) -> None:
    """Exit when the parent is gone.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started the child ends.
    """
    while os.getppid() == parent_pid:
        time.sleep(1.0)
    os._exit(1)


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> list[Any]:
    from math_verify import parse

    found: list[Any] = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return found


def compare(pair: Pair, self_destruct_s: float) -> Finding:
    """The comparison itself; runs in a child.

    SIGALRM at its default action ends the child from inside one endless C call, where the thread
    that follows the parent cannot run: nothing outlives a killed worker for long.
    """
    signal.setitimer(signal.ITIMER_REAL, self_destruct_s)
    try:
        if pair.tolerance is not None:
            return _within(pair.left, pair.right, pair.tolerance)
        return Finding.SAME_VALUE if _same_value(pair.left, pair.right) else Finding.DIFFERENT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _same_value(left: str, right: str) -> bool:
    from math_verify import verify

    first, second = _parsed(left), _parsed(right)
    # Equality is symmetric; math-verify, made to check a model against a reference, is not.
    return bool(
        verify(first, second, timeout_seconds=None) or verify(second, first, timeout_seconds=None)
    )


def _within(left: str, right: str, tolerance: Tolerance) -> Finding:
    answer, reference = _real(left), _real(right)
    if answer is None or reference is None:
        return Finding.NO_NUMBER
    limit = max(tolerance.absolute, tolerance.relative * abs(reference))
    return Finding.SAME_NUMBER if abs(answer - reference) <= limit else Finding.DIFFERENT


def _real(answer: str) -> float | None:
    """The real number that an answer is; None when it is none."""
    for found in _parsed(answer):
        if not isinstance(found, str):
            value = found.evalf()
            if value.is_number and value.is_real and value.is_finite:
                return float(value)
    return None
