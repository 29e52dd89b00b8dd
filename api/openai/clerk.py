"""The threads of an API process that take batches in and end them.

Theory of operation: what is to do stands in Postgres, so any API process may do it and one that is
killed loses nothing. Threads look every `_INTERVAL_S`, and at once when this process has created a
batch; while there is work they go on without a pause. Two of them validate, so that a short window
does not wait behind a large file.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.openai.closing import Closing
from api.openai.intake import Intake
from api.settings import ApiSettings
from db.session import SessionFactory

_log = structlog.get_logger(__name__)

_INTERVAL_S = 0.5
"""Bounds how late the end of a batch is noticed. An idle look of all takes six transactions,
and four looks a second kept a twentieth of a core busy."""

_STORE_AWAY_S = 2.0
_STOP_S = 5.0
"""Bounds how long a stop waits for a step under way; whoever comes next does it again."""

_NUM_INTAKES = 2


class Clerk:
    """Does the paperwork of batches in the background."""

    def __init__(self, sessions: SessionFactory, settings: ApiSettings) -> None:
        self._steps = [Intake(sessions, settings).step for _ in range(_NUM_INTAKES)]
        self._steps.append(Closing(sessions).step)
        self._stop = threading.Event()
        self._news = threading.Event()

    def wake(self) -> None:
        """Look at once."""
        self._news.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work until the end of the block."""
        threads = [
            threading.Thread(target=self._run, args=(step,), name="clerk", daemon=True)
            for step in self._steps
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._news.set()
            give_up_at = time.monotonic() + _STOP_S
            for thread in threads:
                thread.join(max(0.0, give_up_at - time.monotonic()))

    def _run(self, step: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            try:
                if step():
                    continue
            except (OperationalError, InterfaceError, PoolTimeoutError) as error:
                _log.warning("store.away", waiting="openai batches", error=str(error))
                self._stop.wait(_STORE_AWAY_S)
            except Exception:
                _log.exception("openai_batch.not_handled")
                self._stop.wait(_STORE_AWAY_S)
            if self._news.wait(_INTERVAL_S):
                self._news.clear()
