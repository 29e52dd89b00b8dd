"""Waiting and running branches: admission, steps and endings. Owned by the loop's thread.

Theory of operation: a branch waits in a heap by (priority, arrival), then takes a row until it
ends. It leaves through `_end` only, which sends its one event. In a step running rows are compact:
slots 0, 1, ... in the order of `slots.arrange`, so a step computes live rows only. They are
arranged just before a step, so that branches that join take the slots of branches that ended.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import count

import structlog

from worker.engines.base import FinishReason
from worker.engines.tally import Tally
from worker.engines.torch.batch import DecodeBatch
from worker.engines.torch.decoder import Decoder
from worker.engines.torch.prompts import PromptKv, PromptStore
from worker.engines.torch.rows import Row
from worker.engines.torch.text import Text, before_stop, num_until_stop

_PREFILL_TOKENS_PER_TURN = 512
"""New prompt tokens after which a turn decodes, so that running branches are not held up long."""

_log = structlog.get_logger(__name__)


class Serving:
    """The branches that the engine holds, apart from those still in the loop's inbox."""

    def __init__(
        self,
        decoder: Decoder,
        text: Text,
        prompts: PromptStore,
        *,
        eos_token_ids: frozenset[int],
        max_num_seqs: int,
        max_model_len: int,
        on_end: Callable[[str], None],
    ) -> None:
        self.decoder = decoder
        self._text, self._prompts = text, prompts
        self._eos_token_ids = eos_token_ids
        self._max_num_seqs, self._max_model_len = max_num_seqs, max_model_len
        self._on_end = on_end
        self._waiting: list[tuple[int, int, Row]] = []
        self._arrivals = count()
        self._admitted: list[Row] = []
        self._rows: list[Row] = []
        self._batch: DecodeBatch | None = None
        self._busy_since_s: float | None = None
        self.tally = Tally()

    @property
    def is_idle(self) -> bool:
        """Whether no branch waits or runs."""
        return not (self._rows or self._waiting)

    def wait(self, rows: Iterable[Row]) -> None:
        """Puts branches in the queue."""
        for row in rows:
            heapq.heappush(self._waiting, (row.request.priority, next(self._arrivals), row))

    def abort(self, branch_ids: set[str], *, only_waiting: bool = False) -> None:
        """Ends those of the branches that are held, or only those not started."""
        for row in self._held():
            is_spared = only_waiting and row.started_at is not None
            if row.request.branch_id in branch_ids and not is_spared:
                self._end(row, FinishReason.ABORT)
        self._forget_ended()

    def end_all(self, reason: FinishReason, error: str | None = None) -> None:
        """Ends every branch."""
        for row in self._held():
            self._end(row, reason, error)
        self._forget_ended()

    def fail_running(self, error: str) -> None:
        """Ends the branches of a turn that raised; what waits is not affected."""
        for row in (*self._admitted, *self._rows):
            self._end(row, FinishReason.ERROR, error)
        self._forget_ended()

    def turn(self) -> None:
        """Admits what fits, then takes one step for all rows."""
        started_s = time.perf_counter() if self._busy_since_s is None else self._busy_since_s
        self._admit()
        if self._rows:
            self._step()
        now_s = time.perf_counter()
        self.tally.count_busy(now_s - started_s)
        # What happens between two turns with work left is time of the engine too.
        self._busy_since_s = None if self.is_idle else now_s

    def _admit(self) -> None:
        """Moves waiting branches into free rows and samples their first tokens."""
        num_prefilled = 0
        while (
            self._waiting
            and len(self._rows) + len(self._admitted) < self._max_num_seqs
            and num_prefilled < _PREFILL_TOKENS_PER_TURN
        ):
            row = heapq.heappop(self._waiting)[2]
            row.started_at = _now()
            try:
                row.prompt, num_tokens = self._prompt(row)
            except Exception as error:
                _log.exception("branch.prefill_failed", branch_id=row.request.branch_id)
                self._end(row, FinishReason.ERROR, f"prefill failed: {error}")
                continue
            num_prefilled += num_tokens
            self._admitted.append(row)
        if self._admitted:
            self._start()

    def _prompt(self, row: Row) -> tuple[PromptKv, int]:
        """Returns the row's prompt and how many tokens had to be prefilled for it."""
        num_prefilled = 0
        key = tuple(row.prompt_ids)
        prompt = self._prompts.get(key)
        if prompt is None:
            prompt = self.decoder.prefill(row.prompt_ids)
            self._prompts.put(key, prompt)
            num_prefilled = len(key)
            self.tally.count_prefill(num_prefilled)
        if row.num_speculative_tokens and prompt.draft is None:
            prompt.draft = self.decoder.prefill_draft(row.prompt_ids)
        return prompt, num_prefilled

    def _start(self) -> None:
        """Gives admitted branches their first token and, unless it was their last, a row."""
        for row in self._admitted:
            row.generator = self.decoder.uniforms.seeded(row.request.sampling.seed)
        tokens = self.decoder.first_tokens(self._admitted)
        now = _now()
        for row, token in zip(self._admitted, tokens, strict=True):
            row.first_token_at = now
            reason = self._extend(row, [token])
            if reason is None:
                self._rows.append(row)
                self._batch = None
            else:
                self._end(row, reason)
        self._admitted = []

    def _step(self) -> None:
        batch = self._batch or self._arrange()
        num_tokens = [row.num_tokens for row in self._rows]
        self.tally.count_steps(
            1,
            rows=len(self._rows),
            draft_tokens=sum(row.num_speculative_tokens for row in self._rows),
            context_tokens=sum(num_tokens),
        )
        for row, (num_accepted, *tokens) in zip(
            self._rows, self.decoder.step(batch, num_tokens), strict=True
        ):
            before = len(row.token_ids)
            reason = self._extend(row, tokens[: num_accepted + 1])
            row.count_step(num_accepted, len(row.token_ids) - before)
            if reason is not None:
                self._end(row, reason)
        self._forget_ended()

    def _extend(self, row: Row, tokens: Sequence[int]) -> FinishReason | None:
        """Appends sampled tokens up to the end of the branch and says whether it ended."""
        stop = row.request.sampling.stop
        until_stop = num_until_stop(self._text, row.token_ids, tokens, stop) if stop else None
        reason = row.extend(tokens[:until_stop], self._eos_token_ids, self._max_model_len)
        return FinishReason.STOP if until_stop is not None and reason is None else reason

    def _held(self) -> list[Row]:
        return [*self._rows, *self._admitted, *(entry[2] for entry in self._waiting)]

    def _end(self, row: Row, reason: FinishReason, error: str | None = None) -> None:
        if row.has_ended:
            return
        try:
            text = before_stop(self._text.decode(row.token_ids), row.request.sampling.stop)
        except Exception as undecodable:
            _log.exception("branch.not_decoded", branch_id=row.request.branch_id)
            text, reason = "", FinishReason.ERROR
            error = f"the completion could not be decoded, check tokenizer.json: {undecodable}"
        # The event last: whoever sees it may use the id again, and ask for the totals.
        self._on_end(row.request.branch_id)
        row.finish(reason, _now(), text, error, self.tally.count_branch)

    def _forget_ended(self) -> None:
        """Drops ended branches wherever they are."""
        self._admitted = [row for row in self._admitted if not row.has_ended]
        waiting = [entry for entry in self._waiting if not entry[2].has_ended]
        if len(waiting) < len(self._waiting):
            heapq.heapify(waiting)
            self._waiting = waiting
        if any(row.has_ended for row in self._rows):
            self._rows = [row for row in self._rows if not row.has_ended]
            self._batch = None

    def _arrange(self) -> DecodeBatch:
        """Closes the gaps that ended branches left."""
        self._rows = self.decoder.arrange(self._rows)
        self._batch = self.decoder.batch(self._rows)
        return self._batch


def _now() -> datetime:
    return datetime.now(UTC)
