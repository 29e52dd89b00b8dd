"""Turns prompts into token ids and completions into text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from worker.engines.base import BranchRequest
from worker.engines.chat import ChatTemplate, render


class Text(Protocol):
    """What the engine needs of a tokenizer. Must be thread-safe."""

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, with the special tokens that the model expects."""

    def encode_prompt(self, request: BranchRequest) -> list[int]:
        """Returns what the model reads for a request.

        Raises:
            ValueError: The model cannot be asked so.
        """

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, special tokens left out."""


class TokenizerText:
    """The tokenizer and the chat template of a checkpoint.

    Raises:
        ValueError: The chat template cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._chat = ChatTemplate.read(directory)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, with the special tokens that the model expects."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_prompt(self, request: BranchRequest) -> list[int]:
        """Returns what the model reads for a request.

        Raises:
            ValueError: The model cannot be asked so.
        """
        prompt = render(request, self._chat)
        ids: list[int] = self._tokenizer.encode(
            prompt.text, add_special_tokens=not prompt.has_special_tokens
        ).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, special tokens left out."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text


class ByteText:
    """One token per byte, for models of random weights that have no tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Returns the bytes of a text."""
        return list(text.encode())

    def encode_prompt(self, request: BranchRequest) -> list[int]:
        """Returns the bytes of the prompt."""
        return self.encode(render(request, None).text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the completion's bytes as text; ids beyond a byte are left out."""
        return bytes(i for i in token_ids if i < 256).decode(errors="replace")


_CONTEXT_TOKENS = 8
"""Tokens before a stop string that are decoded with it: how one reads may depend on those."""


def num_until_stop(
    text: Text, token_ids: Sequence[int], new: Sequence[int], stop: Sequence[str]
) -> int | None:
    """How many of the new tokens there are up to the end of the first stop string, None without.

    Args:
        token_ids: The completion so far, without a stop string.
    """
    # A token has a character or more, parts of characters aside.
    known = token_ids[-(max(map(len, stop)) + _CONTEXT_TOKENS) :]
    for count in range(1, len(new) + 1):
        if any(each in text.decode([*known, *new[:count]]) for each in stop):
            return count
    return None


def before_stop(completion: str, stop: Sequence[str]) -> str:
    """The completion up to the first stop string in it."""
    ends = [at for each in stop if (at := completion.find(each)) >= 0]
    return completion[: min(ends)] if ends else completion
