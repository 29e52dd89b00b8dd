"""Which cache slot each running branch takes, and which branches attend together."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from worker.engines.torch.prompts import PromptKv
from worker.engines.torch.rows import Row


class Span(NamedTuple):
    """Rows in neighboring slots that attend together; `prompt` is the one that they share."""

    start: int
    stop: int
    prompt: PromptKv | None


def arrange(
    rows: Sequence[Row],
    *,
    context_step_tokens: int | None = None,
    min_saved_tokens: float = math.inf,
) -> tuple[list[Row], list[tuple[int, int]]]:
    """Gives rows the slots 0, 1, ... in descending draft length, moving as few as possible.

    In that order the rows that still draft at any position are the first ones, so every draft
    pass works on a leading slice of the cache. Says of each row whether it shares its prompt.

    Args:
        context_step_tokens: Where given, rows of one draft length are in descending order of
            context, counted in steps of this many tokens, so that neighbors attend to about as
            much. Finer steps move rows more often.
        min_saved_tokens: Rows of one prompt and draft length are neighbors and share the prompt
            where one copy instead of many saves reading at least this many tokens.

    Returns:
        The rows by slot, and the moves (old slot, new slot) of rows that had another slot.
    """
    counts = Counter((row.num_speculative_tokens, row.prompt) for row in rows)
    shared = [
        (length, prompt)
        for (length, prompt), count in counts.items()
        if prompt is not None and (count - 1) * prompt.num_tokens >= min_saved_tokens
    ]
    places: dict[tuple[int, PromptKv | None], int] = {
        key: -place for place, key in enumerate(shared)
    }
    groups: dict[tuple[int, int, int], list[Row]] = {}
    for row in rows:
        length = row.num_speculative_tokens
        place = places.get((length, row.prompt))
        row.shares_prompt = place is not None
        context = row.num_tokens // context_step_tokens if context_step_tokens else 0
        key = (length, -len(shared) if place is None else place, context)
        groups.setdefault(key, []).append(row)
    by_slot: list[Row | None] = [None] * len(rows)
    moves = []
    start = 0
    for key in sorted(groups, reverse=True):
        group = groups[key]
        span = range(start, start + len(group))
        start = span.stop
        homeless = []
        for row in group:
            if row.slot is not None and row.slot in span:
                by_slot[row.slot] = row
            else:
                homeless.append(row)
        for slot in span:
            if by_slot[slot] is None:
                row = homeless.pop()
                if row.slot is not None:
                    moves.append((row.slot, slot))
                by_slot[slot], row.slot = row, slot
    return [row for row in by_slot if row is not None], moves


def spans(rows: Sequence[Row], max_rows: int) -> list[Span]:
    """Cuts rows by slot into spans, of at most `max_rows` where they share nothing."""
    found: list[Span] = []
    for slot, row in enumerate(rows):
        prompt = row.prompt if row.shares_prompt else None
        last = found[-1] if found else None
        is_full = last is not None and prompt is None and slot - last.start >= max_rows
        if last is None or last.prompt is not prompt or is_full:
            found.append(Span(slot, slot + 1, prompt))
        else:
            found[-1] = last._replace(stop=slot + 1)
    return found
