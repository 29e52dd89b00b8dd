"""Decides whether two answers mean the same, without letting a hostile one stop the worker.

Theory of operation: identical normalized strings and plain numbers are settled in place. The rest
goes to math-verify in a pool of spawned processes, one pair per task, each under a wall-clock
limit after which its process is killed and replaced: math-verify is wrong or hangs in threads, and
a tower of powers holds the interpreter inside one C call where no signal handler runs. A pair that
hung, crashed or failed is not the same. The pool starts at the first pair that needs it.
"""

import itertools
import multiprocessing
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool

import structlog
from pebble import ProcessPool

from worker.comparison import Finding, Pair, compare, enter
from worker.spelling import is_plain, quick_finding, tidy

log = structlog.get_logger(__name__)

Done = Callable[[Finding], None]


class Equivalence:
    """Compares answers; safe to share between threads.

    Args:
        num_processes: Size of the pool. Each costs about 100 MB and 1.5 s of import at the start.
        limit_s: Wall-clock seconds of one comparison before its process is killed.
    """

    def __init__(self, *, num_processes: int = 1, limit_s: float = 3.0) -> None:
        self._num_processes = num_processes
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None
        self._known: OrderedDict[Pair, Finding] = OrderedDict()
        self._asked: dict[int, Done] = {}
        self._numbers = itertools.count()
        self._closed = False

    def known(self, pair: Pair) -> Finding | None:
        """Compare answers without a process; None when `compare` must be asked."""
        finding = quick_finding(pair)
        if finding is None:
            with self._lock:
                return self._known.get(_key(pair))
        return finding

    def compare(self, pair: Pair, done: Done) -> None:
        """Compare answers in the pool and call `done` from another thread, once.

        The pool sees the answers with their spaces: without one `\\sin x` is another command.
        """
        number = next(self._numbers)
        with self._lock:
            self._asked[number] = done
        self._ask(number, pair, tries_left=2)

    def warm(self, references: Iterable[str | None]) -> None:
        """Start the pool, without waiting for it, where one of the references will need it."""
        if any(answer is not None and not is_plain(answer) for answer in references):
            with self._lock:
                self._running_pool()

    def close(self) -> None:
        """Kill the pool; what it was comparing has failed. Idempotent."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()
        # A task that no process had begun is dropped by the pool without a word.
        for number in tuple(self._asked):
            self._tell(number, Finding.FAILED)

    def _ask(self, number: int, pair: Pair, *, tries_left: int) -> None:
        future = self._schedule(pair)
        if future is None:
            self._tell(number, Finding.FAILED)
            return

        def settle(settled: Future[Finding]) -> None:
            if isinstance(_error_of(settled), BrokenProcessPool) and tries_left > 1:
                # It says nothing of this pair: it waited when an idle process died.
                self._ask(number, pair, tries_left=tries_left - 1)
            else:
                self._tell(number, self._settle(pair, settled))

        future.add_done_callback(settle)

    def _tell(self, number: int, finding: Finding) -> None:
        with self._lock:
            done = self._asked.pop(number, None)
        if done is not None:
            done(finding)

    def _schedule(self, pair: Pair) -> Future[Finding] | None:
        with self._lock:
            for _ in range(2):
                pool = self._running_pool()
                if pool is None:
                    return None
                try:
                    future: Future[Finding] = pool.schedule(
                        compare,
                        args=(_tidied(pair), self._limit_s + 1),
                        timeout=self._limit_s,
                    )
                except RuntimeError:
                    # An idle process that died (out of memory, say) broke the pool.
                    self._pool = None
                    continue
                return future
        return None

    def _running_pool(self) -> ProcessPool | None:
        """The pool, started if need be. The caller holds the lock."""
        if self._pool is None and not self._closed:
            self._pool = ProcessPool(
                max_workers=self._num_processes,
                # Leaks of the algebra system end with the process.
                max_tasks=2000,
                initializer=enter,
                initargs=(os.getpid(),),
                context=multiprocessing.get_context("spawn"),
            )
        return self._pool

    def _settle(self, pair: Pair, settled: Future[Finding]) -> Finding:
        error = _error_of(settled)
        if error is None:
            finding = settled.result()
        else:
            finding = Finding.TIMED_OUT if isinstance(error, TimeoutError) else Finding.FAILED
            log.warning("answers.not_compared", error=repr(error))
        with self._lock:
            self._known[_key(pair)] = finding
            while len(self._known) > 65536:
                self._known.popitem(last=False)
        return finding


def _error_of(settled: Future[Finding]) -> BaseException | None:
    """What a future that is done failed with; None when it has a result."""
    return CancelledError() if settled.cancelled() else settled.exception()


def _tidied(pair: Pair) -> Pair:
    return Pair(tidy(pair.left), tidy(pair.right), pair.tolerance)


def _key(pair: Pair) -> Pair:
    """Key of a comparison; of meanings it is the same in both orders."""
    if pair.tolerance is None and pair.left > pair.right:
        return Pair(pair.right, pair.left)
    return pair
