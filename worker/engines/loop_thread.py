"""An event loop in a thread of its own, for engines that are asynchronous inside."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines and callbacks for other threads; begins at once.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return what it returns, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Begin a coroutine; returns what cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).cancel

    def soon(self, callback: Callable[[], object]) -> None:
        """Have the loop call back; callbacks run in the order of these calls."""
        self._loop.call_soon_threadsafe(callback)

    def stop(self, *, is_stuck: bool = False) -> None:
        """End the loop and wait for the thread, unless a coroutine may hold it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        if not is_stuck:
            self._thread.join()
            self._loop.close()
