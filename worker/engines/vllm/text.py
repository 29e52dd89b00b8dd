"""Turns requests into token ids and completions into text, with vLLM's tokenizer of the model."""

from pathlib import Path
from typing import Any

from worker.engines.base import BranchRequest
from worker.engines.chat import ChatTemplate, render

_SAMPLE = "A train leaves at 9:40 and covers 126 miles in 3 hours. What is its speed?"
"""Tells how many characters of a problem make a token."""


class Text:
    """The tokenizer and the chat template of a checkpoint.

    Raises:
        ValueError: The chat template cannot be read.
    """

    def __init__(self, tokenizer: Any, directory: Path) -> None:
        self._tokenizer = tokenizer
        self._chat = ChatTemplate.read(directory)

    @property
    def chars_per_token(self) -> float:
        """Characters of a problem per token."""
        return len(_SAMPLE) / len(self._tokenizer.encode(_SAMPLE, add_special_tokens=False))

    def encode_prompt(self, request: BranchRequest) -> list[int]:
        """Returns what the model reads for a request.

        Raises:
            ValueError: The model cannot be asked so.
        """
        prompt = render(request, self._chat)
        return list(
            self._tokenizer.encode(prompt.text, add_special_tokens=not prompt.has_special_tokens)
        )

    def decode(self, token_ids: list[int]) -> str:
        """Returns the text of a completion, special tokens left out."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))
