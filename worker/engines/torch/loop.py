"""The decode loop's thread, and the inbox through which callers reach it.

Theory of operation: callers only append to an inbox under a lock; the thread owns everything
else. A round takes the inbox, drops aborted branches and takes one turn (admission and one step).
With nothing to do it sleeps on a condition. A turn that raises fails the branches in it and the
loop goes on; after several in a row the engine counts as broken: everything fails, and so does
every later submission.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TypeVar

import structlog
import torch

from worker.engines.base import FinishReason
from worker.engines.tally import Tally
from worker.engines.torch.rows import Row
from worker.engines.torch.serving import Serving

_MAX_FAILED_TURNS = 3

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class DecodeLoop:
    """Runs a `Serving` in a thread of its own."""

    def __init__(self, serve: Callable[[Callable[[str], None]], Serving], num_threads: int) -> None:
        """Starts the thread.

        Args:
            serve: Builds the `Serving`, given what to call with the id of an ended branch.
            num_threads: Threads for torch operators of this loop.
        """
        self._condition = threading.Condition()
        self._inbox: list[Row] = []
        self._aborted: set[str] = set()
        self._unwanted: set[str] = set()  # aborted unless they have started
        self._calls: list[Callable[[], None]] = []
        self._held: set[str] = set()
        self._is_closing = False
        self._failure: str | None = None
        self._serving = serve(self._release)
        self._num_threads = num_threads
        self._thread = threading.Thread(target=self._run, name="torch-engine", daemon=True)
        self._thread.start()

    @property
    def tally(self) -> Tally:
        """What was decoded."""
        return self._serving.tally

    def submit(self, rows: Iterable[Row]) -> None:
        """Queues branches; those that cannot be held get their error event at once."""
        with self._condition:
            for row in rows:
                branch_id = row.request.branch_id
                if self._is_closing:
                    refusal: str | None = "the engine is closed; submit to another one"
                elif branch_id in self._held:
                    refusal = f"branch {branch_id} is already here; give each branch its own id"
                else:
                    refusal = self._failure
                if refusal is None:
                    self._held.add(branch_id)
                    self._inbox.append(row)
                else:
                    row.finish(FinishReason.ERROR, datetime.now(UTC), "", refusal)
            self._condition.notify()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """Ends branches within one step; ids that are not held are ignored."""
        with self._condition:
            ended = self._unwanted if only_waiting else self._aborted
            ended.update(self._held.intersection(branch_ids))
            self._condition.notify()

    def call(self, function: Callable[[Serving], T]) -> T:
        """Runs `function` in the loop's thread and returns its result.

        Raises:
            RuntimeError: The engine is closed or serves branches.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                if not self._serving.is_idle:
                    raise RuntimeError("the engine serves branches; wait until it is idle")
                future.set_result(function(self._serving))
            except Exception as error:
                future.set_exception(error)

        with self._condition:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            self._calls.append(run)
            self._condition.notify()
        return future.result()

    def close(self) -> None:
        """Aborts every branch and ends the thread. Idempotent."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _release(self, branch_id: str) -> None:
        with self._condition:
            self._held.discard(branch_id)

    def _run(self) -> None:
        # OpenMP keeps this setting per thread, so the rest of the process is not affected.
        torch.set_num_threads(self._num_threads)
        num_failed = 0
        with torch.inference_mode():
            while self._take_inbox():
                try:
                    self._serving.turn()
                    num_failed = 0
                except Exception as error:
                    num_failed += 1
                    self._fail(f"the step failed: {type(error).__name__}: {error}", num_failed)
            self._serving.end_all(FinishReason.ABORT)

    def _fail(self, message: str, num_failed: int) -> None:
        _log.exception("engine.step_failed", num_in_a_row=num_failed)
        if num_failed < _MAX_FAILED_TURNS:
            self._serving.fail_running(message)
            return
        with self._condition:
            self._failure = f"the engine is broken, restart the worker; {message}"
        self._serving.end_all(FinishReason.ERROR, self._failure)

    def _take_inbox(self) -> bool:
        """Waits for something to do and takes what callers left; False when closing."""
        with self._condition:
            self._condition.wait_for(self._has_work)
            inbox, self._inbox = self._inbox, []
            aborted, self._aborted = self._aborted, set()
            unwanted, self._unwanted = self._unwanted, set()
            calls, self._calls = self._calls, []
            is_closing = self._is_closing
        self._serving.wait(inbox)
        if aborted:
            self._serving.abort(aborted)
        if unwanted:
            self._serving.abort(unwanted, only_waiting=True)
        for call in calls:
            call()
        return not is_closing

    def _has_work(self) -> bool:
        return bool(
            self._inbox
            or self._aborted
            or self._unwanted
            or self._calls
            or self._is_closing
            or not self._serving.is_idle
        )
