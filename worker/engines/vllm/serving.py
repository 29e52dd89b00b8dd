"""Waiting branches, and those that are in vLLM. Owned by the event loop.

Theory of operation: branches wait here in a heap by (priority, arrival), and vLLM is given few more
than it has rows, so that its rows go to the most urgent branches without preemption. Each is a
request of its own: branches of a problem share its prefill through the prefix cache. An abort is
sent to vLLM's core alone, which answers with the end of the branch (`scheduler.py`); so every
branch that was given to vLLM ends by what vLLM says.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Coroutine, Iterable
from itertools import count
from typing import Any

import structlog
from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from worker.engines.base import FinishReason
from worker.engines.vllm.recorder import Recorder
from worker.engines.vllm.rows import Row
from worker.engines.vllm.scheduler import DRAFT_LENGTH

log = structlog.get_logger(__name__)

_WATCH_INTERVAL_S = 0.5

_CLOSE_LIMIT_S = 10.0
"""What has not ended by then gets its event without vLLM."""


class Serving:
    """The branches that the engine holds.

    Args:
        max_admitted: Branches given to vLLM at once.
        on_end: Called with the id of an ended branch, before its event.
        on_death: Called once, with the reason, when vLLM's core died.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        recorder: Recorder,
        *,
        decode: Callable[[list[int]], str],
        max_admitted: int,
        max_model_len: int,
        on_end: Callable[[str], None],
        on_death: Callable[[str], None] | None,
    ) -> None:
        self._llm = llm
        self._recorder = recorder
        self._decode = decode
        self._max_admitted = max_admitted
        self._max_model_len = max_model_len
        self._on_end = on_end
        self._on_death = on_death
        self._waiting: list[tuple[int, int, Row]] = []
        self._arrivals = count()
        self._admitted: dict[str, Row] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_dead = False

    @property
    def is_idle(self) -> bool:
        """Whether no branch waits or runs."""
        return not (self._waiting or self._admitted)

    def submit(self, rows: Iterable[Row]) -> None:
        """Put branches in the queue and give vLLM what it may have."""
        for row in rows:
            heapq.heappush(self._waiting, (row.request.priority, next(self._arrivals), row))
        self._admit()

    def abort(self, branch_ids: set[str], *, only_waiting: bool = False) -> None:
        """End those of the branches that are held, or only those not given to vLLM."""
        kept = []
        for entry in self._waiting:
            if entry[2].request.branch_id in branch_ids:
                self._end_unstarted(entry[2], FinishReason.ABORT)
            else:
                kept.append(entry)
        if len(kept) < len(self._waiting):
            heapq.heapify(kept)
            self._waiting = kept
        if only_waiting:
            return
        rows = [self._admitted[i] for i in branch_ids if i in self._admitted]
        for row in rows:
            row.is_aborted = True
            if self._is_dead:
                self._leave(row)
                self._end_unstarted(row, FinishReason.ABORT)
        self._send_aborts([row for row in rows if row.internal_id and not self._is_dead])

    async def watch(self) -> None:
        """Notice the death of vLLM while no branch would."""
        while not self._llm.errored:
            await asyncio.sleep(_WATCH_INTERVAL_S)
        self.die(str(self._llm.dead_error))

    async def close(self) -> None:
        """Abort every branch and wait for their ends."""
        self.abort({row.request.branch_id for *_, row in self._waiting} | set(self._admitted))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_LIMIT_S)
        for row in tuple(self._admitted.values()):
            self._leave(row)
            self._end_unstarted(row, FinishReason.ABORT)

    def _admit(self) -> None:
        while self._waiting and len(self._admitted) < self._max_admitted and not self._is_dead:
            row = heapq.heappop(self._waiting)[2]
            self._admitted[row.request.branch_id] = row
            self._recorder.began()
            self._spawn(self._run(row))

    async def _run(self, row: Row) -> None:
        """See one branch through vLLM."""
        request = row.request
        try:
            collector = await self._llm.add_request(
                request.branch_id,
                tokens_input(row.prompt_ids),
                self._params(row),
                arrival_time=time.time(),
                priority=request.priority,
            )
            row.internal_id = collector.request_id
            if row.is_aborted:
                self._send_aborts([row])
            output = await collector.get()
        except EngineDeadError as error:
            self.die(str(error))
        except Exception as error:
            if self._llm.errored:
                self.die(str(error))
                return
            # A value that vLLM does not take is the caller's fault, anything else is ours.
            if not isinstance(error, ValueError):
                log.exception("branch.failed", branch_id=request.branch_id)
            self._leave(row)
            self._end_unstarted(row, FinishReason.ERROR, f"{type(error).__name__}: {error}")
        else:
            self._finish(row, output)
        self._admit()

    def _finish(self, row: Row, output: RequestOutput) -> None:
        if row.has_ended:
            # It was aborted after vLLM had died, or did not end in time when the engine closed.
            return
        completion = output.outputs[0]
        token_ids = list(completion.token_ids)
        self._leave(row, len(row.prompt_ids) + len(token_ids) if token_ids else 0)
        self._on_end(row.request.branch_id)
        text = completion.text if row.request.sampling.stop else self._decode(token_ids)
        row.end(output, text, self._recorder.tally.count_branch)

    def _leave(self, row: Row, num_tokens: int = 0) -> None:
        del self._admitted[row.request.branch_id]
        self._recorder.ended(num_tokens)
        if not self._admitted:
            self._recorder.idle()

    def _end_unstarted(self, row: Row, reason: FinishReason, error: str | None = None) -> None:
        self._on_end(row.request.branch_id)
        row.end_unstarted(reason, error)

    def _send_aborts(self, rows: list[Row]) -> None:
        ids = [row.internal_id for row in rows]
        if ids:
            self._spawn(self._abort_in_core(ids))

    async def _abort_in_core(self, ids: list[str | None]) -> None:
        try:
            await self._llm.engine_core.abort_requests_async(ids)
        except EngineDeadError as error:
            self.die(str(error))

    def _params(self, row: Row) -> SamplingParams:
        request, sampling = row.request, row.request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            seed=sampling.seed,
            thinking_token_budget=sampling.thinking_token_budget,
            max_tokens=min(request.max_tokens, self._max_model_len - len(row.prompt_ids)),
            output_kind=RequestOutputKind.FINAL_ONLY,
            stop=list(sampling.stop),
            # Text is needed during decoding only to look for stop strings in it.
            detokenize=bool(sampling.stop),
            extra_args={DRAFT_LENGTH: request.num_speculative_tokens},
        )

    def die(self, reason: str) -> None:
        """Hold all branches until they are aborted: an error would fail their problems."""
        if not self._is_dead:
            self._is_dead = True
            log.error("engine.died", reason=reason)
            if self._on_death is not None:
                self._on_death(reason)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
