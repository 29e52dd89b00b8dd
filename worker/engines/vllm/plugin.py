"""What vLLM's processes do for Slackline; vLLM loads it through its entry point at their start.

Theory of operation: vLLM's engine core is a child of the worker and does not notice when the worker
is killed: it would hold the GPU for ever. So each process of vLLM asks the kernel to be killed with
its parent (`PR_SET_PDEATHSIG`, Linux). A core that fails to start says why in its log only, and
the worker learns no more than that it failed; so the reason is also written to a file.

Under any other program that uses vLLM in the same environment nothing happens.
"""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from pathlib import Path

FAILURE_FILE = "SLACKLINE_VLLM_FAILURE_FILE"
"""Variable of the environment: where the reason of a failed start goes. Set by the worker."""

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


class FailureFile(logging.Handler):
    """Keeps the first exception that a process of vLLM logs."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write the exception, unless there is one."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not self._path.exists():
            # After the start the file's folder is gone.
            with contextlib.suppress(OSError):
                self._path.write_text(f"{type(error).__name__}: {error}")


def register() -> None:
    """Bind this process to its parent, if that is a worker's or vLLM's own."""
    parent = multiprocessing.parent_process()
    path = os.environ.get(FAILURE_FILE)
    if parent is None or path is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent.pid:
        raise SystemExit("the worker is gone")
    logging.getLogger("vllm").addHandler(FailureFile(Path(path)))
