"""Samples completions from a demo model on the CPU, many branches at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.demo_model import tokenizer
from worker.demo_model.llama import KvCache, Llama, Step

MAX_NEW_TOKENS = 400
"""Limit on a completion; the longest correct one is about 280 tokens."""

ROWS_PER_BATCH = 256
STEPS_BETWEEN_SHRINKS = 16
"""Finished rows are dropped from the batch this often."""


@dataclass(frozen=True)
class Completion:
    """One sampled branch; `token_ids` ends in EOS unless the limit cut it off."""

    token_ids: list[int]

    @property
    def text(self) -> str:
        """The completion without special tokens."""
        return tokenizer.decode(self.token_ids)


def extract_answer(text: str) -> str:
    """Returns the final answer, the digits after the last `#### `, or "" if there is none."""
    _, separator, tail = text.rpartition("#### ")
    answer = tail.strip()
    return answer if separator and answer.isdecimal() else ""


def sample(
    model: Llama,
    prompts: Sequence[str],
    num_branches: int,
    temperature: float,
    generator: torch.Generator,
) -> list[list[Completion]]:
    """Samples `num_branches` completions of every prompt at top_p 1, with a KV cache."""
    group = max(1, ROWS_PER_BATCH // num_branches)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: list[list[Completion]] = [[] for _ in prompts]
    for start in range(0, len(by_length), group):
        chosen = by_length[start : start + group]
        rows = _sample_rows(
            model, [prompts[i] for i in chosen], num_branches, temperature, generator
        )
        for position, i in enumerate(chosen):
            branches = rows[position * num_branches : (position + 1) * num_branches]
            completions[i] = [Completion(branch) for branch in branches]
    return completions


@torch.inference_mode()
def _sample_rows(
    model: Llama,
    prompts: list[str],
    num_branches: int,
    temperature: float,
    generator: torch.Generator,
) -> list[list[int]]:
    """Samples one group of prompts; branches of a prompt are adjacent rows."""
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    width = max(map(len, encoded))
    padded = torch.tensor([ids + [tokenizer.PAD_ID] * (width - len(ids)) for ids in encoded])
    lengths = torch.tensor([len(ids) for ids in encoded])
    cache = KvCache.empty(model.shape, len(prompts), width + MAX_NEW_TOKENS)
    # Padding is cached too, but each slot is overwritten before a later token may look at it.
    positions = torch.arange(width).expand(len(prompts), width)
    hidden = model.hidden(padded, Step(cache, positions))
    logits = model.lm_head(hidden[torch.arange(len(prompts)), lengths - 1])

    row_of_slot = torch.arange(len(prompts)).repeat_interleave(num_branches)
    cache, logits, positions = cache.keep(row_of_slot), logits[row_of_slot], lengths[row_of_slot]
    branches: list[list[int]] = [[] for _ in row_of_slot]
    alive = torch.arange(len(branches))
    for num_sampled in range(1, MAX_NEW_TOKENS + 1):
        tokens = _draw(logits, temperature, generator)
        for branch, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            if not branches[branch] or branches[branch][-1] != tokenizer.EOS_ID:
                branches[branch].append(token)
        if num_sampled % STEPS_BETWEEN_SHRINKS == 0:
            unfinished = [branches[b][-1] != tokenizer.EOS_ID for b in alive.tolist()]
            kept = torch.tensor(unfinished).nonzero()[:, 0]
            if not len(kept):
                break
            if len(kept) < len(alive):
                cache, alive = cache.keep(kept), alive[kept]
                positions, tokens = positions[kept], tokens[kept]
        logits = model(tokens[:, None], Step(cache, positions[:, None]))[:, 0]
        positions = positions + 1
    return branches


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draws one token per row of (num_rows, vocab_size) logits."""
    probabilities = (logits / temperature).softmax(-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
