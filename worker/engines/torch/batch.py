"""The rows of a step as tensors; rebuilt when a row joins or leaves, advanced on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.engines.torch.rows import Row
from worker.engines.torch.sampling import SamplingRows
from worker.engines.torch.slots import Span


class DecodeBatch:
    """Running rows in slot order, which is descending draft length.

    Attributes:
        max_drafted: Longest draft of the batch.
        spans: Rows that attend together.
        num_drafting: Rows that draft at each position.
        num_tokens: Prompt and completion tokens of each row; the last one is not cached yet.
        last_two: The last two tokens of each row.
        spread: Packed index of each (row, position) of a verification, when widths differ.
        gather: Index in that rectangle of each packed token, when widths differ.
    """

    def __init__(self, rows: Sequence[Row], spans: Sequence[Span], device: torch.device) -> None:
        self.spans = spans
        lengths = [row.num_speculative_tokens for row in rows]
        self.num_rows, self.max_drafted = len(rows), lengths[0]
        self.num_drafting = [
            sum(length > position for length in lengths) for position in range(self.max_drafted)
        ]
        self.sampling = SamplingRows.of([row.request.sampling for row in rows], device)
        self.seeded = [
            (slot, row.num_speculative_tokens + 1, row.generator)
            for slot, row in enumerate(rows)
            if row.generator is not None
        ]
        self.num_tokens = torch.tensor([row.num_tokens for row in rows], device=device)
        self.last_two = torch.tensor([row.last_tokens() for row in rows], device=device)
        self.offsets = torch.arange(-2, self.max_drafted, device=device)
        self.spread: Tensor | None = None
        self.gather: Tensor | None = None
        self.is_drafted: Tensor | None = None
        if lengths[-1] != self.max_drafted:
            self._pack(lengths, device)

    def _pack(self, lengths: list[int], device: torch.device) -> None:
        width = self.max_drafted + 1
        spread: list[int] = []
        gather: list[int] = []
        for row, length in enumerate(lengths):
            first = len(gather)
            spread += [first + min(position, length) for position in range(width)]
            gather += [row * width + position for position in range(length + 1)]
        self.spread = torch.tensor(spread, device=device)
        self.gather = torch.tensor(gather, device=device)
        positions = torch.arange(self.max_drafted, device=device)
        self.is_drafted = positions < torch.tensor(lengths, device=device)[:, None]

    def advance(self, tokens: Tensor, num_accepted: Tensor, next_token: Tensor) -> None:
        """Moves every row past its accepted tokens and the next one.

        Args:
            tokens: (num_rows, max_drafted + 1), the last known token and then the draft.
        """
        last_accepted = tokens.gather(1, num_accepted[:, None])[:, 0]
        self.last_two = torch.stack((last_accepted, next_token), dim=1)
        self.num_tokens = self.num_tokens + num_accepted + 1
