"""Turns prompts into token ids and completions into text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer


class Text(Protocol):
    """What the engine needs of a tokenizer. Must be thread-safe."""

    def encode(self, prompt: str) -> list[int]:
        """Returns the prompt's token ids, with the special tokens that the model expects."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, special tokens left out."""


class TokenizerText:
    """The tokenizer of a checkpoint."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))

    def encode(self, prompt: str) -> list[int]:
        """Returns the prompt's token ids, with the special tokens that the model expects."""
        ids: list[int] = self._tokenizer.encode(prompt).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a completion, special tokens left out."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text


class ByteText:
    """One token per byte, for models of random weights that have no tokenizer."""

    def encode(self, prompt: str) -> list[int]:
        """Returns the prompt's bytes."""
        return list(prompt.encode())

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the completion's bytes as text; ids beyond a byte are left out."""
        return bytes(i for i in token_ids if i < 256).decode(errors="replace")
