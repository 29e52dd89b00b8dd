"""What the body of a chat or completion request asks for, in our terms.

What we can do is taken over; a parameter that would change the answer and that we cannot honor is
refused by name unless it has its neutral value; parameters that change no answer are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from api.errors import ApiError, invalid, validation_error
from api.schemas.grading import GradingIn
from api.schemas.submission import RunOptions
from api.schemas.text import Text

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
ENDPOINTS = (CHAT, COMPLETIONS)

PROMPT_FIELDS = {CHAT: "messages", COMPLETIONS: "prompt"}
"""Where the prompt of a request stands, by endpoint."""

# Without effect on an answer.
_IGNORED = frozenset(
    {"user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"}
    | {"prompt_cache_retention", "parallel_tool_calls", "stream_options"}
)
# Not to be had, so only these values are taken; None always is.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "stream": (False,),
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
_ADVICE = {
    "n": " Several solutions are sampled anyway and the one that won is returned; bound their"
    " number with slackline.max_branches.",
}
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "stop", "seed")
_TAKEN = frozenset(
    {"model", "messages", "prompt", "max_completion_tokens", "slackline", *_SAMPLING}
)
_SPEAKERS = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
}


class LineOptions(RunOptions):
    """Our options of one line, under `slackline` in its body; they override the batch's."""

    reference_answer: Text | None = Field(None, min_length=1)
    deadline: str | None = None
    grading: GradingIn | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is given.

    Attributes:
        messages: The turns that it was made from, each `{"role", "content"}`; None for a plain one.
    """

    text: str
    messages: list[dict[str, str]] | None = None


def prompt_of(body: Mapping[str, Any], endpoint: str) -> Prompt:
    """The prompt of a request.

    Raises:
        ApiError: 400 for what is no text, or an empty one.
    """
    field = PROMPT_FIELDS[endpoint]
    if endpoint == CHAT:
        messages = _messages(body[field])
        prompt = Prompt(_joined(messages), messages)
    else:
        prompt = Prompt(_plain(body[field]))
    if not prompt.text:
        raise invalid(field, f"Invalid value for '{field}': it is empty.")
    if "\0" in prompt.text:
        raise invalid(field, f"Invalid value for '{field}': it contains a NUL character.")
    return prompt


def _messages(messages: Any) -> list[dict[str, str]]:
    """The turns of a chat, their content as one text."""
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array", messages)
    turns = []
    for index, raw in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(raw, dict):
            raise _wrong_type(param, "an object", raw)
        role = raw.get("role")
        if not isinstance(role, str) or role not in _SPEAKERS:
            known = ", ".join(f"'{role}'" for role in _SPEAKERS)
            raise invalid(
                f"{param}.role",
                f"Invalid value: '{str(role)[:100]}'. Supported values are: {known}.",
            )
        content = _text(raw.get("content"), f"{param}.content")
        # Templates of models know no developer.
        turns.append({"role": "system" if role == "developer" else role, "content": content})
    return turns


def _joined(messages: list[dict[str, str]]) -> str:
    """Messages as one prompt.

    A model with a chat template is given the messages; one without reads this. One message is the
    prompt as it is. Several are written as `Speaker: text`, a blank line between them, and end with
    `Assistant:`, which the model goes on from.
    """
    if len(messages) == 1:
        return messages[0]["content"]
    turns = (f"{_SPEAKERS[turn['role']]}: {turn['content']}\n\n" for turn in messages)
    return "".join(turns) + "Assistant:"


def _text(content: Any, param: str) -> str:
    """The text of a message: a string, or parts that are all text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong_type(param, "a string or an array of text parts", content)
    parts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise invalid(
                f"{param}[{index}]",
                f"Invalid value: '{str(kind)[:100]}'. Supported values are: 'text'. Models here"
                " read text only.",
            )
        parts.append(part["text"])
    return "".join(parts)


def _plain(prompt: Any) -> str:
    """The prompt of a completion: a string, or one string in a list."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise invalid(
            "prompt",
            "Invalid value for 'prompt': one string is expected. Give each prompt a line of its"
            " own; lists of tokens are not supported.",
        )
    return prompt


def options_of(body: Mapping[str, Any]) -> LineOptions:
    """What a line asks for beside its prompt, as far as it says so.

    Raises:
        ApiError: 400 for what we cannot do.
    """
    for name, value in body.items():
        if name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
            raise ApiError(
                400,
                "unsupported_parameter",
                f"Unsupported parameter: '{name}' is not supported with this value. Leave it out."
                + _ADVICE.get(name, ""),
                param=name,
            )
        if name not in _KNOWN:
            raise ApiError(
                400,
                "unknown_parameter",
                f"Unrecognized request argument supplied: {name[:100]}. Leave it out.",
                param=name[:100],
            )
    ours = body.get("slackline") or {}
    if not isinstance(ours, dict):
        raise _wrong_type("slackline", "an object", ours)
    wanted = dict(ours)
    for name in _SAMPLING:
        if body.get(name) is not None:
            wanted[name] = body[name]
    if body.get("max_completion_tokens") is not None:
        wanted["max_tokens"] = body["max_completion_tokens"]
    try:
        return LineOptions.model_validate(wanted)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        prefix = "slackline" if errors[0]["loc"][0] in ours else ""
        raise validation_error(errors, prefix=prefix) from None


_KNOWN = _IGNORED | _TAKEN | set(_NEUTRAL)


def _wrong_type(param: str, expected: str, value: Any) -> ApiError:
    return invalid(
        param,
        f"Invalid type for '{param}': expected {expected}, but got {json_kind(value)} instead.",
        code="invalid_type",
    )


def json_kind(value: Any) -> str:
    """What a decoded JSON value is, in words."""
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return kinds.get(type(value), "null")
