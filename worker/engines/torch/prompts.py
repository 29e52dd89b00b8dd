"""Keeps the keys and values of recent prompts, so that branches of a problem share one prefill."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from worker.engines.torch.cache import KvCache


@dataclass(slots=True, eq=False)
class PromptKv:
    """A prefilled prompt.

    Attributes:
        draft: Set once a branch of this prompt speculates.
    """

    target: KvCache
    logits: Tensor  # (1, vocab_size), after the last prompt token
    draft: KvCache | None = None

    @property
    def num_tokens(self) -> int:
        """Length of the prompt."""
        return self.target.max_tokens


class PromptStore:
    """The most recently used prompts, up to a number of tokens."""

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity_tokens = capacity_tokens
        self._num_tokens = 0
        self._prompts: OrderedDict[tuple[int, ...], PromptKv] = OrderedDict()

    def get(self, prompt_ids: tuple[int, ...]) -> PromptKv | None:
        """Returns a stored prompt and marks it as used."""
        prompt = self._prompts.get(prompt_ids)
        if prompt is not None:
            self._prompts.move_to_end(prompt_ids)
        return prompt

    def put(self, prompt_ids: tuple[int, ...], prompt: PromptKv) -> None:
        """Stores a prompt and forgets the least recently used ones beyond the capacity."""
        self._prompts[prompt_ids] = prompt
        self._num_tokens += len(prompt_ids)
        while self._num_tokens > self._capacity_tokens and len(self._prompts) > 1:
            forgotten, _ = self._prompts.popitem(last=False)
            self._num_tokens -= len(forgotten)
