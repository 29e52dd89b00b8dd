"""The branches that the engine holds: which wait, which stream, and what their streams tell.

Theory of operation: everything here runs in the thread of one event loop. At most `max_num_seqs`
branches are with the server, each in a task that reads its stream; the others wait here by
`(priority, arrival)`, so that a late urgent branch goes before early ones whatever the server
does. Ending a task closes its stream, by which servers abort a request.

Steps of the server are not seen, only those of each branch; one of them with r branches decoding
counts as 1/r of a step of the engine.
"""

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import count

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    wait_exponential,
    wait_random,
)

from worker.engines.base import FinishReason
from worker.engines.openai.endpoint import Endpoint, EndpointError
from worker.engines.openai.flight import Flight
from worker.engines.openai.settings import EndpointSettings
from worker.engines.openai.wire import Offer, body_of, path_of
from worker.engines.tally import Tally

log = structlog.get_logger(__name__)

_BACKOFF = wait_exponential(multiplier=0.2, max=5.0) + wait_random(0.0, 0.2)
_CUT_OFF = frozenset({"abort", "error"})
"""Finish reasons by which a server that shuts down or fails ends requests."""
_REMEMBERED_PROMPTS = 64
"""Prompts of late, which a server most likely still has in its prefix cache."""


class Serving:
    """Streams branches from one server.

    Args:
        on_end: Called with the id of an ended branch before its event is sent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: EndpointSettings,
        offer: Offer,
        *,
        max_num_seqs: int,
        on_end: Callable[[str], None],
    ) -> None:
        self._endpoint, self._settings = endpoint, settings
        self._offer = offer
        self._max_num_seqs = max_num_seqs
        self._on_end = on_end
        self._waiting: list[tuple[int, int, Flight]] = []
        self._arrivals = count()
        self._running: dict[str, Flight] = {}
        self._num_decoding = 0
        self._recent_prompts: OrderedDict[str, None] = OrderedDict()
        self._busy_since_s = 0.0
        self.tally = Tally()

    @property
    def is_idle(self) -> bool:
        """Whether no branch waits or streams."""
        return not (self._running or self._waiting)

    def submit(self, flights: Iterable[Flight]) -> None:
        """Queue branches and send those that there is room for."""
        for flight in flights:
            heapq.heappush(self._waiting, (flight.request.priority, next(self._arrivals), flight))
        self._fill()

    def abort(self, branch_ids: set[str], *, only_waiting: bool = False) -> None:
        """End those of the branches that are held, or only those that were not sent."""
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if entry[2].request.branch_id in branch_ids:
                self._end(entry[2], FinishReason.ABORT)
            else:
                self._waiting.append(entry)
        heapq.heapify(self._waiting)
        if not only_waiting:
            for branch_id in branch_ids & self._running.keys():
                task = self._running[branch_id].task
                if task is not None:
                    task.cancel()

    async def close(self) -> None:
        """Abort everything and close the connections."""
        held = self._running.keys() | {e[2].request.branch_id for e in self._waiting}
        tasks = [flight.task for flight in self._running.values() if flight.task is not None]
        self.abort(held)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._endpoint.aclose()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._max_num_seqs:
            flight = heapq.heappop(self._waiting)[2]
            if not self._running:
                self._busy_since_s = time.perf_counter()
            self._running[flight.request.branch_id] = flight
            flight.started_at = _now()
            flight.task = asyncio.ensure_future(self._run(flight))
            # Not at the end of the task: one that is cancelled before its first turn never runs.
            flight.task.add_done_callback(partial(self._leave, flight))

    async def _run(self, flight: Flight) -> tuple[FinishReason, str | None]:
        """Stream one branch; returns how it ended, with a message when it failed."""
        left_s = (flight.request.deadline_at - _now()).total_seconds()
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                return await self._receive(flight), None
        except TimeoutError:
            return FinishReason.ABORT, None
        except EndpointError as failed:
            if failed.is_refusal:
                flight.started_at = None
            return FinishReason.ERROR, str(failed)
        except Exception as failed:
            log.exception("branch.failed", branch_id=flight.request.branch_id)
            return FinishReason.ERROR, f"the stream failed: {failed!r}"

    async def _receive(self, flight: Flight) -> FinishReason:
        """Stream a branch, again from its start when the connection fails."""

        def is_enough(state: RetryCallState) -> bool:
            now_s = time.monotonic()
            failing_s = now_s - (flight.failing_since_s or now_s)
            return failing_s + state.upcoming_sleep >= self._settings.retry_s

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, EndpointError) and e.is_transient),
            wait=_pause_s,
            stop=is_enough,
            reraise=True,
        ):
            with attempt:
                return await self._attempt(flight)
        raise AssertionError("tenacity returns or raises")

    async def _attempt(self, flight: Flight) -> FinishReason:
        flight.begin()
        try:
            await self._stream(flight)
            if flight.finish_reason is None or flight.finish_reason in _CUT_OFF:
                raise EndpointError(
                    f"the server at {self._settings.base_url} broke off before the branch ended",
                    is_transient=True,
                )
        except EndpointError:
            flight.failing_since_s = flight.failing_since_s or time.monotonic()
            raise
        return FinishReason.LENGTH if flight.finish_reason == "length" else FinishReason.STOP

    async def _stream(self, flight: Flight) -> None:
        request = flight.request
        body = body_of(request, self._settings, self._offer)
        is_decoding = False
        try:
            async for chunk in self._endpoint.stream(path_of(request, self._settings), body):
                num_steps = flight.take(chunk, _now())
                if flight.first_token_at is not None and not is_decoding:
                    is_decoding = True
                    self._num_decoding += 1
                    self._count_prefill(flight)
                self._count(flight, num_steps)
        finally:
            self._num_decoding -= is_decoding

    def _count_prefill(self, flight: Flight) -> None:
        """Count the prefill of a prompt that the server has not had of late."""
        prompt = flight.request.prompt
        if prompt not in self._recent_prompts:
            self.tally.count_prefill(flight.prompt_tokens or 0)
        self._recent_prompts[prompt] = None
        self._recent_prompts.move_to_end(prompt)
        if len(self._recent_prompts) > _REMEMBERED_PROMPTS:
            self._recent_prompts.popitem(last=False)

    def _count(self, flight: Flight, num_steps: int) -> None:
        if num_steps:
            rows = self._num_decoding
            context_tokens = (flight.prompt_tokens or 0) + flight.steps.num_tokens
            self.tally.count_steps(
                num_steps / rows,
                rows=rows,
                draft_tokens=rows * flight.request.num_speculative_tokens,
                context_tokens=rows * context_tokens,
            )
        self._count_busy()

    def _count_busy(self) -> None:
        now_s = time.perf_counter()
        self.tally.count_busy(now_s - self._busy_since_s)
        self._busy_since_s = now_s

    def _leave(self, flight: Flight, task: "asyncio.Task[tuple[FinishReason, str | None]]") -> None:
        reason, error = (FinishReason.ABORT, None) if task.cancelled() else task.result()
        self._count_busy()
        del self._running[flight.request.branch_id]
        self._end(flight, reason, error)
        self._fill()

    def _end(self, flight: Flight, reason: FinishReason, error: str | None = None) -> None:
        metrics = flight.metrics(_now())
        self.tally.count_branch(metrics)
        # First the id, then the event: whoever sees the event may use the id again.
        self._on_end(flight.request.branch_id)
        flight.send(reason, metrics, error)


def _pause_s(state: RetryCallState) -> float:
    """Backoff, or longer if the server asks for it."""
    failed = state.outcome.exception() if state.outcome else None
    asked_s = failed.retry_after_s if isinstance(failed, EndpointError) else None
    return max(_BACKOFF(state), asked_s or 0.0)


def _now() -> datetime:
    return datetime.now(UTC)
