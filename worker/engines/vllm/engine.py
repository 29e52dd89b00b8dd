"""The vLLM engine: one resident `AsyncLLM` in an event loop of its own thread."""

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from vllm.config import VllmConfig
from vllm.v1.engine.async_llm import AsyncLLM

from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from worker.engines.base import BranchFinished, BranchRequest, FinishReason
from worker.engines.loop_thread import LoopThread
from worker.engines.requests import encoded, refusal
from worker.engines.vllm.arguments import admitted_ahead, core_environment, is_cpu, vllm_config
from worker.engines.vllm.limits import Limits, VllmStartError
from worker.engines.vllm.plugin import FAILURE_FILE
from worker.engines.vllm.recorder import Recorder
from worker.engines.vllm.rows import Row
from worker.engines.vllm.self_test import run_self_test
from worker.engines.vllm.serving import Serving
from worker.engines.vllm.settings import VllmSettings
from worker.engines.vllm.text import Text
from worker.engines.vllm.timing import time_prefills, time_steps

_SHUTDOWN_S = 4.0
"""How long vLLM may take to end; nothing runs in it any more."""

T = TypeVar("T")


class VllmEngine:
    """Decodes branches with vLLM; see `worker.engines.base.Engine`.

    Calls only put work into the event loop, whose thread owns everything else.
    """

    def __init__(
        self,
        model_dir: Path,
        draft_dir: Path | None = None,
        settings: VllmSettings | None = None,
        *,
        model: str,
        max_num_seqs: int = 64,
        on_death: Callable[[str], None] | None = None,
    ) -> None:
        """Starts vLLM: seconds for a small checkpoint, minutes for a large one.

        Args:
            max_num_seqs: Rows that decode together.
            on_death: Called once, with the reason, when vLLM died. Then branches give no events
                until they are aborted; the process is to be replaced.

        Raises:
            VllmStartError: The checkpoint, a setting or the memory is not what vLLM needs.
            SelfTestError: vLLM does not draft as the engine relies on.
        """
        settings = settings or VllmSettings()
        config = vllm_config(model_dir, draft_dir, settings, max_num_seqs=max_num_seqs)
        lengths = settings.draft_lengths if config.speculative_config else (0,)
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._is_closed = False
        self._recorder = Recorder()
        self._loop = LoopThread("vllm-engine")
        try:
            self._llm = self._loop.call(self._start(config))
            self._loop.call(run_self_test(self._llm, lengths))
            self._text = Text(self._llm.get_tokenizer(), model_dir)
            workers = self._loop.call(self._llm.collective_rpc("samples_drafts_exactly"))
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            self._loop.stop(is_stuck=True)
            raise
        self._limits = Limits(
            can_budget=config.reasoning_config is not None,
            samples_drafts_exactly=all(workers),
            takes_seeds=not is_cpu() or not config.scheduler_config.enable_chunked_prefill,
        )
        # vLLM drafts nothing at all in a step in which a branch is this near to its limit.
        max_model_len = config.model_config.max_model_len - max(lengths) - 1
        self._spec = EngineSpec(
            "vllm",
            model,
            max_num_seqs,
            max_model_len,
            lengths,
            config.cache_config.num_gpu_blocks * config.cache_config.block_size,
            chars_per_token=self._text.chars_per_token,
        )
        self._serving = Serving(
            self._llm,
            self._recorder,
            decode=self._text.decode,
            max_admitted=max_num_seqs + admitted_ahead(max_num_seqs),
            max_model_len=max_model_len,
            on_end=self._release,
            on_death=on_death,
        )
        self._stop_watching = self._loop.spawn(self._serving.watch())

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._spec

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        """Queues branches; their events arrive on `events`."""
        now, now_s = datetime.now(UTC), time.monotonic()
        rows = []
        prompts = tuple(encoded(requests, self._text.encode_prompt))
        with self._lock:
            for request, prompt_ids, why in prompts:
                row = Row(request, events, now, now_s, prompt_ids)
                why = why or self._refusal(row)
                if why is None:
                    self._held.add(request.branch_id)
                    rows.append(row)
                else:
                    row.end_unstarted(FinishReason.ERROR, why)
            if rows:
                self._loop.soon(lambda: self._serving.submit(rows))

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def totals(self) -> EngineTotals:
        """What vLLM decoded since the start."""
        return self._recorder.tally.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """Ends branches within one step; ids that are unknown or finished are ignored."""
        with self._lock:
            held = self._held.intersection(branch_ids)
            if held and not self._is_closed:
                self._loop.soon(lambda: self._serving.abort(held, only_waiting=only_waiting))

    def close(self) -> None:
        """Aborts what runs and ends vLLM and the thread. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._stop_watching()
        self._loop.call(self._close())
        self._loop.stop()

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int = 20
    ) -> tuple[float, ...]:
        """Times decode steps on an idle engine, in seconds; context is the total over rows.

        Raises:
            ValueError: The engine cannot run such a step.
            RuntimeError: The engine is closed or serves branches.
        """
        spec, k = self._spec, num_speculative_tokens
        if not 1 <= rows <= spec.max_num_seqs or k not in spec.draft_lengths:
            raise ValueError(f"{rows=}, {num_speculative_tokens=} is outside {spec}")
        tokens_per_row = context_tokens // rows
        return self._measure(
            lambda: time_steps(
                self._llm, self._recorder, rows, k, tokens_per_row, spec.max_model_len, repeats
            )
        )

    def measure_prefill(self, *, prompt_tokens: int, repeats: int = 5) -> tuple[float, ...]:
        """Times prefills of one prompt by target and draft on an idle engine, in seconds."""
        if not 1 <= prompt_tokens < self._spec.max_model_len:
            raise ValueError(f"{prompt_tokens=} is not 1 to {self._spec.max_model_len - 1}")
        longest = max(self._spec.draft_lengths)
        return self._measure(lambda: time_prefills(self._llm, longest, prompt_tokens, repeats))

    def _measure(self, timing: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def run() -> T:
            if not self._serving.is_idle:
                raise RuntimeError("the engine serves branches; wait until it is idle")
            try:
                return await timing()
            finally:
                # What was timed are no branches, and nobody else tells that they have left.
                self._recorder.idle()

        if self._is_closed:
            raise RuntimeError("the engine is closed")
        return self._loop.call(run())

    async def _start(self, config: VllmConfig) -> AsyncLLM:
        with tempfile.TemporaryDirectory(prefix="slackline-vllm-") as folder:
            failure = Path(folder) / "failure"
            os.environ[FAILURE_FILE] = str(failure)
            try:
                with core_environment(config):
                    return AsyncLLM.from_vllm_config(
                        config, stat_loggers=[lambda *_: self._recorder], disable_log_stats=True
                    )
            except Exception as error:
                reason = failure.read_text() if failure.exists() else str(error)
                raise VllmStartError(reason) from error

    async def _close(self) -> None:
        await self._serving.close()
        self._llm.shutdown(timeout=_SHUTDOWN_S)

    def _refusal(self, row: Row) -> str | None:
        branch_id = row.request.branch_id
        if self._is_closed:
            return "the engine is closed; submit to another one"
        if branch_id in self._held:
            return f"branch {branch_id} is already here; give each branch its own id"
        num_tokens, can_budget = len(row.prompt_ids), self._limits.can_budget
        return refusal(
            row.request, num_tokens, self._spec, can_budget=can_budget
        ) or self._limits.refusal(row.request)

    def _release(self, branch_id: str) -> None:
        with self._lock:
            self._held.discard(branch_id)
