"""Times real steps and prefills on made-up rows, for calibration."""

import time
from datetime import UTC, datetime
from queue import SimpleQueue

import torch

from worker.engines.base import BranchFinished, BranchRequest, Sampling
from worker.engines.torch.decoder import Decoder
from worker.engines.torch.rows import Row

_WARM_UP = 3
_TOKEN_ID = 1


def time_steps(
    decoder: Decoder,
    num_rows: int,
    num_speculative_tokens: int,
    tokens_per_row: int,
    max_model_len: int,
    repeats: int,
) -> tuple[float, ...]:
    """Returns the seconds of steps that all start from the same contexts, given their mean.

    Cached values are whatever is there: they change which tokens are accepted, not the time.
    """
    # As in the middle of a long run: evenly spread, the longest with three times the shortest.
    spread = min(0.5, max_model_len / tokens_per_row - 1.0) if num_rows > 1 else 0.0
    contexts = torch.linspace(1.0 + spread, 1.0 - spread, num_rows) * tokens_per_row
    rows = [
        _row(slot, num_speculative_tokens, max(2, round(context)))
        for slot, context in enumerate(contexts.tolist())
    ]
    num_tokens_by_row = [row.num_tokens for row in rows]
    batch = decoder.batch(rows)
    num_tokens = batch.num_tokens
    seconds = []
    for _ in range(_WARM_UP + repeats):
        batch.num_tokens = num_tokens
        _synchronize(decoder)
        start = time.perf_counter()
        for row, (num_accepted, *tokens) in zip(
            rows, decoder.step(batch, num_tokens_by_row), strict=True
        ):
            row.extend(tokens[: num_accepted + 1], frozenset(), 2**31)
            row.count_step(num_accepted, num_accepted + 1)
        seconds.append(time.perf_counter() - start)
    return tuple(seconds[_WARM_UP:])


def time_prefills(decoder: Decoder, prompt_tokens: int, repeats: int) -> tuple[float, ...]:
    """Returns the seconds of prefills of one prompt by target and draft."""
    prompt_ids = [_TOKEN_ID] * prompt_tokens
    seconds = []
    for _ in range(_WARM_UP + repeats):
        _synchronize(decoder)
        start = time.perf_counter()
        decoder.prefill(prompt_ids)
        decoder.prefill_draft(prompt_ids)
        _synchronize(decoder)
        seconds.append(time.perf_counter() - start)
    return tuple(seconds[_WARM_UP:])


def _row(slot: int, num_speculative_tokens: int, num_tokens: int) -> Row:
    now = datetime.now(UTC)
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    request = BranchRequest(
        branch_id=f"timing:{slot}",
        prompt="",
        branch_index=slot,
        num_speculative_tokens=num_speculative_tokens,
        max_tokens=2**31,
        sampling=Sampling(),
        priority=0,
        deadline_at=now,
    )
    return Row(request, events, now, [_TOKEN_ID] * (num_tokens - 1), [_TOKEN_ID], slot=slot)


def _synchronize(decoder: Decoder) -> None:
    if decoder.target.device.type == "cuda":
        torch.cuda.synchronize(decoder.target.device)
