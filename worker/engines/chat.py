"""Turns a request into the text that a model reads: its prompt as it is, or as a chat.

Theory of operation: a checkpoint may come with a chat template, a Jinja program of somebody else,
in `chat_template.jinja` or in `tokenizer_config.json`. It runs in a sandbox with the names that
transformers gives it, so it renders what transformers would. Special tokens such as the beginning
of the text stand in what it renders, so the tokenizer must not add them again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import orjson
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scheduler.core.branch_options import PromptFormat
from worker.engines.base import BranchRequest
from worker.engines.requests import check_plain

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Text for the tokenizer.

    Attributes:
        has_special_tokens: Whether it begins as the model expects, so that nothing is to be added.
    """

    text: str
    has_special_tokens: bool


class ChatTemplate:
    """The chat template of a checkpoint.

    Args:
        special_tokens: What the template may name, such as `bos_token`.

    Raises:
        ValueError: The template is no Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template cannot be read: {error}") from None
        self._special_tokens = dict(special_tokens)

    @classmethod
    def read(cls, directory: Path) -> "ChatTemplate | None":
        """The template of a checkpoint, None where it has none.

        Raises:
            ValueError: The template is no Jinja.
        """
        path = directory / "tokenizer_config.json"
        config = orjson.loads(path.read_bytes()) if path.exists() else {}
        own = directory / "chat_template.jinja"
        source = own.read_text(encoding="utf-8") if own.exists() else config.get("chat_template")
        if isinstance(source, list):
            # Several by name, for tools and the like.
            named = {each["name"]: each["template"] for each in source}
            source = named.get("default")
        if source is None:
            return None
        tokens = {name: config[name] for name in _SPECIAL_TOKENS if config.get(name)}
        return cls(
            source,
            {
                name: token["content"] if isinstance(token, dict) else token
                for name, token in tokens.items()
            },
        )

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The beginning of a chat, up to where the model's turn begins.

        Raises:
            ValueError: The template refuses such a chat, one with a system prompt, say.
        """
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, **self._special_tokens
            )
        except (TemplateError, TypeError) as error:
            raise ValueError(f"the model's chat template refuses this chat: {error}") from None


def render(request: BranchRequest, template: ChatTemplate | None) -> Rendered:
    """What the model of a checkpoint reads for a request, what it is to go on from included.

    Raises:
        ValueError: The model cannot be asked so; the message says what to change.
    """
    if template is None or request.prompt_format is PromptFormat.PLAIN:
        check_plain(request)
        if request.prompt_format is PromptFormat.CHAT:
            raise ValueError("the model has no chat template; ask with prompt_format plain or auto")
        return Rendered(request.prompt + request.partial, False)
    text = template.render(request.messages)
    return Rendered(text + request.partial, True)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Jinja's own filter would escape for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
