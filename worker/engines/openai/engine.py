"""The engine in front of an OpenAI-compatible server, which owns the model and its batch."""

import threading
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from worker.engines.base import BranchFinished, BranchRequest, FinishReason
from worker.engines.loop_thread import LoopThread
from worker.engines.openai.endpoint import Endpoint
from worker.engines.openai.flight import Flight
from worker.engines.openai.probe import probe
from worker.engines.openai.serving import Serving
from worker.engines.openai.settings import EndpointSettings
from worker.engines.openai.timing import Clock
from worker.engines.openai.wire import COMPLETIONS, path_of
from worker.engines.requests import check_plain, refusal

_SPARE_CONNECTIONS = 8
"""For aborted streams that are still closing."""


class OpenAIEngine:
    """Decodes branches on a server; see `worker.engines.base.Engine`.

    Calls only put work into the event loop, whose thread owns everything else.
    """

    def __init__(
        self, settings: EndpointSettings, *, model: str | None = None, max_num_seqs: int = 64
    ) -> None:
        """Asks the server what it offers and starts the thread of the event loop.

        Args:
            model: Name of one of the server's models; not needed where it has only one.
            max_num_seqs: Branches that are with the server at once.

        Raises:
            EndpointError: The server cannot be used; the message says what to set.
        """
        self._settings = settings
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._is_closed = False
        self._loop = LoopThread("openai-engine")
        endpoint = Endpoint(settings, max_connections=max_num_seqs + _SPARE_CONNECTIONS)
        try:
            offer = self._loop.call(probe(endpoint, settings, model))
        except BaseException:
            self._loop.call(endpoint.aclose())
            self._loop.stop()
            raise
        self._spec = EngineSpec(
            "openai",
            offer.model,
            max_num_seqs,
            offer.max_model_len,
            settings.draft_lengths,
            max_num_seqs * offer.max_model_len,
            chars_per_token=offer.chars_per_token,
        )
        self._serving = Serving(
            endpoint,
            settings,
            offer,
            max_num_seqs=max_num_seqs,
            on_end=self._release,
        )
        self._clock = Clock(endpoint, settings, offer)

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._spec

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        """Queues branches; their events arrive on `events`."""
        now = datetime.now(UTC)
        flights = []
        with self._lock:
            for request in requests:
                flight = Flight(request, events, now)
                why = self._refusal(request)
                if why is None:
                    self._held.add(request.branch_id)
                    flights.append(flight)
                else:
                    flight.send(FinishReason.ERROR, flight.metrics(now), why)
            if flights:
                self._loop.soon(lambda: self._serving.submit(flights))

    def totals(self) -> EngineTotals:
        """What the server did for this engine, as far as its streams tell."""
        return self._serving.tally.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """Closes the streams of branches; ids that are unknown or finished are ignored."""
        with self._lock:
            held = self._held.intersection(branch_ids)
            if held and not self._is_closed:
                self._loop.soon(lambda: self._serving.abort(held, only_waiting=only_waiting))

    def close(self) -> None:
        """Aborts what runs and ends the thread. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._loop.call(self._serving.close())
        self._loop.stop()

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int
    ) -> tuple[float, ...]:
        """Times decode steps through as many streams as rows, while nothing else is served.

        What others ask of the server meanwhile is in the times, as it is in those of branches.

        Args:
            context_tokens: Tokens in the caches, total over rows; kept to within a tenth or so,
                since the server owns the tokenizer.

        Raises:
            RuntimeError: The engine serves branches, or the server's end too soon.
            EndpointError: The server failed.
        """
        return self._timed(
            self._clock.steps(rows, num_speculative_tokens, context_tokens // rows, repeats)
        )

    def measure_prefill(self, *, prompt_tokens: int, repeats: int) -> tuple[float, ...]:
        """Times first tokens of prompts that the server has not seen, in seconds."""
        return self._timed(self._clock.prefills(prompt_tokens, repeats))

    def _timed(self, measurement: Coroutine[Any, Any, tuple[float, ...]]) -> tuple[float, ...]:
        with self._lock:
            is_idle = not self._held and not self._is_closed
        if not is_idle:
            measurement.close()
            raise RuntimeError("the engine is closed or serves branches; wait until it is idle")
        return self._loop.call(measurement)

    def _refusal(self, request: BranchRequest) -> str | None:
        """Why a request cannot run; prompts that are too long are told by the server."""
        if self._is_closed:
            return "the engine is closed; submit to another one"
        if request.branch_id in self._held:
            return f"branch {request.branch_id} is already here; give each branch its own id"
        if path_of(request, self._settings) == COMPLETIONS:
            try:
                check_plain(request)
            except ValueError as error:
                return str(error)
        return refusal(request, int(bool(request.prompt)), self._spec, can_budget=True)

    def _release(self, branch_id: str) -> None:
        with self._lock:
            self._held.discard(branch_id)
