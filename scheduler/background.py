"""Work beside the ticks: a thread that does something now and then while the scheduler leads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import DBAPIError

_log = structlog.get_logger(__name__)


@contextmanager
def repeating(
    name: str,
    work: Callable[[datetime, threading.Event], object],
    *,
    interval_s: float,
    patience_s: float,
) -> Iterator[None]:
    """Do work every so often until the end of the block; what fails is logged and tried again.

    Args:
        work: Given the time, and an event that is set when it should come to its end.
        patience_s: How long the end of the block waits for work in progress.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_s):
            try:
                work(datetime.now(UTC), stop)
            except DBAPIError as error:
                _log.warning(f"{name}.store_away", error=str(error.orig))
            except Exception:
                _log.exception(f"{name}.failed")

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(patience_s)
