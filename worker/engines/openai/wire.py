"""The bodies that are sent to a server, and the chunks that it streams back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from scheduler.core.branch_options import PromptFormat
from worker.engines.base import BranchRequest
from worker.engines.openai.settings import EndpointSettings

COMPLETIONS = "completions"
CHAT = "chat/completions"


_SPARE_TOKENS = 64
"""Room for a chat template and for prompts that are denser than most."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers, as found at the start.

    Attributes:
        vllm_fields: Whether to send fields that only vLLM and its kin know.
        chars_per_token: Characters of a prompt per token.
    """

    model: str
    max_model_len: int
    vllm_fields: bool
    chars_per_token: float

    def room(self, request: BranchRequest) -> int:
        """Completion tokens that surely fit beside a prompt; servers refuse to cut at the end."""
        num_chars = len(request.prompt) + len(request.system_prompt or "") + len(request.partial)
        about = math.ceil(1.2 * num_chars / self.chars_per_token) + _SPARE_TOKENS
        return max(self.max_model_len - about, 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream.

    Attributes:
        finish_reason: As the server names it; set by the last chunk of the text.
        prompt_tokens: None where the chunk says nothing of it.
        completion_tokens: Tokens of the completion so far, likewise.
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class StreamError(Exception):
    """An error that the server put into its stream."""


def path_of(request: BranchRequest, settings: EndpointSettings) -> str:
    """Where to send a branch, below the base URL."""
    if request.prompt_format is PromptFormat.AUTO:
        return CHAT if settings.api == "chat" else COMPLETIONS
    return CHAT if request.prompt_format is PromptFormat.CHAT else COMPLETIONS


def body_of(request: BranchRequest, settings: EndpointSettings, offer: Offer) -> dict[str, Any]:
    """The request of a branch as JSON."""
    sampling = request.sampling
    stream_options: dict[str, Any] = {"include_usage": True}
    body: dict[str, Any] = {
        "model": offer.model,
        "max_tokens": min(request.max_tokens, offer.room(request)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": stream_options,
        **_prompt(request, settings),
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.top_k is not None:
        body["top_k"] = sampling.top_k
    if sampling.thinking_token_budget is not None:
        body["thinking_token_budget"] = sampling.thinking_token_budget
    if offer.vllm_fields:
        # Tells the tokens of each chunk, where several may come at once.
        stream_options["continuous_usage_stats"] = True
    if settings.send_priority:
        body["priority"] = request.priority
    if settings.draft_per_branch:
        body["vllm_xargs"] = {"draft_len": request.num_speculative_tokens}
    return body


def _prompt(request: BranchRequest, settings: EndpointSettings) -> dict[str, Any]:
    if path_of(request, settings) == COMPLETIONS:
        return {"prompt": request.prompt + request.partial}
    messages = request.messages
    if not request.partial:
        return {"messages": messages}
    messages.append({"role": "assistant", "content": request.partial})
    return {
        "messages": messages,
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


def parse_chunk(data: str) -> Chunk:
    """Read one event of a stream.

    Raises:
        StreamError: The event is an error, or no chunk.
    """
    try:
        event = orjson.loads(data)
        if (error := event.get("error")) is not None:
            raise StreamError(error_text(event) or str(error))
        usage = event.get("usage") or {}
        choice = (event.get("choices") or [{}])[0]
        delta = choice.get("delta") or choice
        # Servers that part the reasoning of a model from its answer name it in two ways.
        parts = (delta.get(name) for name in ("reasoning", "reasoning_content", "content", "text"))
        return Chunk(
            text="".join(part for part in parts if part),
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )
    except (orjson.JSONDecodeError, AttributeError, TypeError, LookupError):
        raise StreamError(f"the server streamed what is no chunk: {data[:200]}") from None


def error_text(document: Any) -> str | None:
    """The message of an error body, in the forms that servers use."""
    if not isinstance(document, Mapping):
        return None
    for value in (document.get("error"), document.get("message"), document.get("detail")):
        if isinstance(value, Mapping):
            value = value.get("message")
        if isinstance(value, str) and value:
            return value
    return None
