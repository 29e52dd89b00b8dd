"""What other programs take of this machine while something is measured."""

import threading
import time
from types import TracebackType
from typing import Self

import psutil

INTERVAL_S = 1.0


class Others:
    """Samples, once a second, how many cores programs use that this one did not start."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def cores(self, since_s: float, until_s: float) -> float:
        """Mean number of cores that others used between two instants of `time.time`."""
        seen = [cores for at_s, cores in self._samples if since_s <= at_s <= until_s + INTERVAL_S]
        return sum(seen) / max(len(seen), 1)

    def _run(self) -> None:
        before = self._used_s()
        while not self._stop.wait(INTERVAL_S):
            now = self._used_s()
            # What a child did that ended since is counted for the others for one second.
            used_s = max(now[1] - before[1] - (now[2] - before[2]), 0.0)
            self._samples.append((now[0], used_s / (now[0] - before[0])))
            before = now

    def _used_s(self) -> tuple[float, float, float]:
        """Now, and CPU-seconds since the start of the machine: of all, and of our processes."""
        everyone = psutil.cpu_times()
        busy_s = sum(
            getattr(everyone, kind, 0.0)
            for kind in ("user", "nice", "system", "irq", "softirq", "steal")
        )
        own_s = 0.0
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                used = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            own_s += used.user + used.system + used.children_user + used.children_system
        return time.time(), busy_s, own_s
