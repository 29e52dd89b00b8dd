"""The child's side of comparing answers: algebra in a process that can be killed at any moment."""

import logging
import os
import resource
import signal
import threading
import time
from functools import lru_cache

_CHILD_MEMORY_BYTES = 2 * 1024**3


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
def _parsed(answer: str) -> list[object]:
    from math_verify import parse

    found: list[object] = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return found


def same_value(left: str, right: str, self_destruct_s: float) -> bool:
    """The comparison itself; runs in a child.

    SIGALRM at its default action ends the child from inside one endless C call, where the thread
    that follows the parent cannot run: nothing outlives a killed worker for long.
    """
    from math_verify import verify

    signal.setitimer(signal.ITIMER_REAL, self_destruct_s)
    try:
        first, second = _parsed(left), _parsed(right)
        # Equality is symmetric; math-verify, made to check a model against a reference, is not.
        return bool(
            verify(first, second, timeout_seconds=None)
            or verify(second, first, timeout_seconds=None)
        )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
