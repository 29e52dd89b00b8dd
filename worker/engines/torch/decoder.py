"""One speculative step for all rows: draft, verify in one target pass, accept.

Theory of operation: before a step the target has cached every token of a row but the last, and the
draft all but the last two at worst (after a draft was accepted as a whole it has not seen its own
last token). So the first draft pass always feeds the last two tokens, which rewrites the same
keys and values where nothing was missing; later passes feed one. A rejected token's keys and
values stay in the cache beyond the row's length, where the mask hides them until they are
overwritten.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engines.torch.batch import DecodeBatch
from worker.engines.torch.cache import KvCache, Segment
from worker.engines.torch.model import LlamaModel, Pass
from worker.engines.torch.prompts import PromptKv
from worker.engines.torch.rows import Row
from worker.engines.torch.sampling import SamplingRows, Uniforms, draw, verify
from worker.engines.torch.slots import arrange, spans

_CONTEXT_BLOCK = 32
"""Attention covers the longest context rounded up to this many tokens, so that cache views are
reused for many steps and masks stay aligned."""

_ROWS_PER_SEGMENT = 8
"""Rows that attend together on a CPU, where reading their keys and values takes most of the time.
An accelerator takes all rows together: there, more launches cost more than masked tokens."""

_CONTEXT_STEP_TOKENS = 128
"""Rows change places when their context crosses a multiple of this."""

_MIN_SAVED_TOKENS = 2048
"""Rows share a prompt on a CPU where that saves reading this many tokens. With the demo model 8
rows that saved about 1,200 lost up to 6%, and 16 that saved 2,500 gained 0 to 18%. On an
accelerator no row does, for the reason above."""


def round_up(num_tokens: int) -> int:
    """Rounds a context up to whole blocks."""
    return -(-num_tokens // _CONTEXT_BLOCK) * _CONTEXT_BLOCK


class Decoder:
    """Target, draft and their caches; knows nothing of queues."""

    def __init__(
        self,
        target: LlamaModel,
        draft: LlamaModel | None,
        *,
        max_num_seqs: int,
        max_tokens: int,
        seed: int | None = None,
    ) -> None:
        self.target, self.draft = target, draft
        self.target_cache = target.new_cache(max_num_seqs, max_tokens)
        self.draft_cache = draft.new_cache(max_num_seqs, max_tokens) if draft else None
        self.uniforms = Uniforms(target.device, seed)
        is_cpu = target.device.type == "cpu"
        self._rows_per_segment = _ROWS_PER_SEGMENT if is_cpu else max_num_seqs
        self._min_saved_tokens = _MIN_SAVED_TOKENS if is_cpu else math.inf

    def prefill(self, prompt_ids: list[int]) -> PromptKv:
        """Runs the target over a prompt."""
        cache, hidden = self._prefill(self.target, prompt_ids)
        return PromptKv(cache, self.target.logits(hidden[-1:]))

    def prefill_draft(self, prompt_ids: list[int]) -> KvCache | None:
        """Runs the draft over a prompt."""
        return self._prefill(self.draft, prompt_ids)[0] if self.draft else None

    def _prefill(self, model: LlamaModel, prompt_ids: list[int]) -> tuple[KvCache, Tensor]:
        num_tokens = len(prompt_ids)
        cache = model.new_cache(1, num_tokens)
        positions = torch.arange(num_tokens, device=model.device)
        step = Pass(
            num_rows=1,
            width=num_tokens,
            rotation=model.rotations(positions),
            write=cache.write_index(positions[None]).flatten(),
            cache=cache,
            segments=(Segment(0, 1, num_tokens),),
            mask=None,
        )
        return cache, model.forward(torch.tensor(prompt_ids, device=model.device), step)

    def first_tokens(self, rows: list[Row]) -> list[int]:
        """Samples the first completion token of rows from their prompts."""
        logits = torch.stack([row.prompt.logits for row in rows if row.prompt])
        sampling = SamplingRows.of([row.request.sampling for row in rows], self.target.device)
        seeded = [(i, 1, row.generator) for i, row in enumerate(rows) if row.generator is not None]
        uniforms = self.uniforms.draw(len(rows), 1, seeded)
        tokens: list[int] = draw(sampling.probabilities(logits)[:, 0], uniforms[:, 0, :1]).tolist()
        return tokens

    def arrange(self, rows: Sequence[Row]) -> list[Row]:
        """Gives every row its slot, moves what is cached for it and returns the rows by slot."""
        has_segments = len(rows) > self._rows_per_segment
        by_slot, moves = arrange(
            rows,
            context_step_tokens=_CONTEXT_STEP_TOKENS if has_segments else None,
            min_saved_tokens=self._min_saved_tokens,
        )
        tokens = [by_slot[slot].cached_tokens for _, slot in moves]
        self.target_cache.move(moves, tokens)
        if self.draft_cache:
            self.draft_cache.move(moves, tokens)
        for row in by_slot:
            if not (row.shares_prompt or row.has_prompt_copy):
                self._fill(row)
        return by_slot

    def _fill(self, row: Row) -> None:
        """Copies a row's prompt into its slot, for the draft too where the row speculates."""
        assert row.slot is not None
        assert row.prompt is not None
        self.target_cache.fill(row.slot, row.prompt.target)
        if self.draft_cache and row.prompt.draft and row.num_speculative_tokens:
            self.draft_cache.fill(row.slot, row.prompt.draft)
        row.has_prompt_copy = True

    def batch(self, rows: Sequence[Row]) -> DecodeBatch:
        """Builds the tensors for steps of arranged rows."""
        return DecodeBatch(rows, spans(rows, self._rows_per_segment), self.target.device)

    def step(self, batch: DecodeBatch, num_tokens: Sequence[int]) -> list[list[int]]:
        """Advances every row by its accepted draft and one more token.

        Args:
            num_tokens: Tokens of each row.

        Returns:
            Per row the number of accepted tokens, then the new tokens, one more than accepted;
            what follows them has no meaning.
        """
        ends = [
            round_up(max(num_tokens[start:stop]) + batch.max_drafted)
            for start, stop, _ in batch.spans
        ]
        positions = batch.num_tokens[:, None] + batch.offsets  # (num_rows, max_drafted + 2)
        uniforms = self.uniforms.draw(batch.num_rows, batch.max_drafted + 1, batch.seeded)
        tokens, q = self._draft(batch, positions, ends, uniforms)
        p = self._target(batch, tokens, positions[:, 1:], ends)
        num_accepted, next_token = verify(p, q, tokens[:, 1:], batch.is_drafted, uniforms)
        batch.advance(tokens, num_accepted, next_token)
        emitted = torch.cat((num_accepted[:, None], tokens[:, 1:], next_token[:, None]), dim=1)
        emitted.scatter_(1, num_accepted[:, None] + 1, next_token[:, None])
        rows: list[list[int]] = emitted.tolist()
        return rows

    def _target(
        self, batch: DecodeBatch, tokens: Tensor, positions: Tensor, ends: Sequence[int]
    ) -> Tensor:
        """Returns p (num_rows, max_drafted + 1, vocab_size)."""
        target, cache = self.target, self.target_cache
        flat_tokens, flat_positions = tokens.flatten(), positions.flatten()
        write = cache.write_index(positions)
        if batch.gather is not None:
            flat_tokens = flat_tokens.index_select(0, batch.gather)
            flat_positions = flat_positions.index_select(0, batch.gather)
            write = write.flatten(0, 1).index_select(0, batch.gather)
        step = Pass(
            num_rows=batch.num_rows,
            width=batch.max_drafted + 1,
            rotation=target.rotations(flat_positions),
            write=write.flatten(),
            cache=cache,
            segments=[
                Segment(start, stop, end, prompt.target if prompt else None)
                for (start, stop, prompt), end in zip(batch.spans, ends, strict=True)
            ],
            mask=target.grouped(target.mask(positions, max(ends))),
            spread=batch.spread,
            gather=batch.gather,
        )
        logits = target.logits(target.forward(flat_tokens, step))
        if batch.spread is not None:
            logits = logits.index_select(0, batch.spread)
        return batch.sampling.probabilities(logits.view(batch.num_rows, step.width, -1))

    def _draft(
        self,
        batch: DecodeBatch,
        positions: Tensor,
        ends: Sequence[int],
        uniforms: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Drafts for the rows that want it.

        Returns:
            The last token followed by the draft (num_rows, max_drafted + 1), and
            q (num_rows, max_drafted + 1, vocab_size), 0 where nothing was drafted.
        """
        tokens = batch.last_two.new_zeros(batch.num_rows, batch.max_drafted + 1)
        tokens[:, 0] = batch.last_two[:, 1]
        draft, cache = self.draft, self.draft_cache
        if draft is None or cache is None or not batch.max_drafted:
            return tokens, uniforms.new_zeros(())
        q = uniforms.new_zeros(batch.num_rows, batch.max_drafted + 1, self.target.config.vocab_size)
        write = cache.write_index(positions)
        mask = draft.mask(positions, max(ends))
        rotations = draft.rotations(positions.flatten()).view(*positions.shape, 1, -1)
        for position, num_rows in enumerate(batch.num_drafting):
            first = position + 1 if position else 0
            span = slice(first, position + 2)
            fed = tokens[:num_rows, position] if position else batch.last_two[:num_rows].flatten()
            segments = [
                Segment(start, min(stop, num_rows), end, prompt.draft if prompt else None)
                for (start, stop, prompt), end in zip(batch.spans, ends, strict=True)
                if start < num_rows
            ]
            step = Pass(
                num_rows=num_rows,
                width=position + 2 - first,
                rotation=rotations[:num_rows, span].flatten(0, 1),
                write=write[:num_rows, span].flatten(),
                cache=cache,
                segments=segments,
                mask=draft.grouped(mask[:num_rows, :, span, : max(ends[: len(segments)])]),
            )
            hidden = draft.forward(fed, step)[step.width - 1 :: step.width]
            probabilities = batch.sampling.probabilities(draft.logits(hidden)[:, None])[:, 0]
            q[:num_rows, position] = probabilities
            tokens[:num_rows, position + 1] = draw(
                probabilities, uniforms[:num_rows, position + 1, :1]
            )
        return tokens, q
