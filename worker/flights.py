"""The branches of a batch that its engine holds."""

from collections.abc import Iterable, Sequence
from queue import SimpleQueue

from worker.contests import Contest
from worker.engines.base import BranchFinished, BranchRequest, Engine


class Flights:
    """Which problem each branch in flight is of. Aborts are collected and sent together.

    Used by the batch's thread; others may ask for the length.
    """

    def __init__(self, engine: Engine, events: SimpleQueue[BranchFinished]) -> None:
        self._engine, self._events = engine, events
        self._contests: dict[str, tuple[Contest, int]] = {}
        self._aborts: list[str] = []

    def __len__(self) -> int:
        return len(self._contests)

    def start(self, requests: Sequence[tuple[Contest, BranchRequest]]) -> None:
        """Submit the next requests of branches of these problems."""
        for contest, request in requests:
            self._contests[request.branch_id] = (contest, request.branch_index)
        self._engine.submit([request for _, request in requests], self._events)

    def end(self, branch_id: str) -> tuple[Contest, int]:
        """The problem and the index of a branch whose event came."""
        return self._contests.pop(branch_id)

    def abort(self, branch_ids: Iterable[str]) -> None:
        """Abort these with the next `send_aborts`."""
        self._aborts += branch_ids

    def send_aborts(self) -> None:
        """Tell the engine what to abort."""
        if self._aborts:
            self._engine.abort(self._aborts)
            self._aborts = []

    def abort_all(self) -> None:
        """Abort all at once."""
        self._engine.abort(list(self._contests))

    def abort_waiting(self) -> None:
        """Abort those that wait for a row and whose problems have a vote."""
        voted = (i for i, (contest, _) in self._contests.items() if contest.ballot.num_finished)
        self._engine.abort(list(voted), only_waiting=True)
