"""Asks a server at the start of a worker what it offers, and whether it can be used."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.engines.base import BranchRequest, Sampling
from worker.engines.openai.config import EndpointConfig
from worker.engines.openai.endpoint import Endpoint, EndpointError, OfferedModel
from worker.engines.openai.wire import body_of, path_of

_SAMPLE_TEXT = (
    "A train leaves at 9:40 and covers 126 miles in 3 hours. What is its speed? Another one leaves"
    " the same station 25 minutes later and is 15 miles per hour faster. When does it catch up?"
)
"""Tells how many characters of a problem make a token."""
_TEMPLATE_TOKENS = 20
"""About what a chat template puts around a short message."""
_FALLBACK_CHARS_PER_TOKEN = 3.5


@dataclass(frozen=True, slots=True)
class Offer:
    """What was found.

    Attributes:
        vllm_fields: Whether to send fields that only vLLM and its kin know.
    """

    model: str
    max_model_len: int
    vllm_fields: bool
    chars_per_token: float


async def probe(endpoint: Endpoint, config: EndpointConfig, model: str | None) -> Offer:
    """Find the model and decode one token with it.

    Raises:
        EndpointError: The server cannot be used; the message says what to set.
    """
    chosen = _choose(await endpoint.models(), model, config)
    max_model_len = config.max_model_len or chosen.max_model_len
    if max_model_len is None:
        raise EndpointError(
            f"the server at {config.base_url} does not say how many tokens {chosen.name!r} takes;"
            " set --max-model-len to its context length",
            is_transient=False,
        )
    vllm_fields = config.vllm_fields
    if vllm_fields is None:
        vllm_fields = chosen.owned_by == "vllm"
    prompt_tokens = await _first_token(endpoint, config, chosen.name, vllm_fields=vllm_fields)
    if prompt_tokens and config.api == "chat":
        prompt_tokens = max(prompt_tokens - _TEMPLATE_TOKENS, 1)
    return Offer(
        chosen.name,
        max_model_len,
        vllm_fields,
        len(_SAMPLE_TEXT) / prompt_tokens if prompt_tokens else _FALLBACK_CHARS_PER_TOKEN,
    )


def _choose(offered: list[OfferedModel], model: str | None, config: EndpointConfig) -> OfferedModel:
    names = ", ".join(repr(each.name) for each in offered) or "none"
    if model is None:
        if len(offered) == 1:
            return offered[0]
        raise EndpointError(
            f"choose a model of the server at {config.base_url} with --model; it offers: {names}",
            is_transient=False,
        )
    for each in offered:
        if each.name == model:
            return each
    raise EndpointError(
        f"the server at {config.base_url} does not offer the model {model!r};"
        f" set --model to one that it does: {names}",
        is_transient=False,
    )


async def _first_token(
    endpoint: Endpoint, config: EndpointConfig, model: str, *, vllm_fields: bool
) -> int | None:
    """Decode one token; returns the tokens of the sample's prompt, where the server tells."""
    request = BranchRequest(
        branch_id="probe",
        prompt=_SAMPLE_TEXT,
        branch_index=0,
        num_speculative_tokens=config.num_speculative_tokens,
        max_tokens=1,
        sampling=Sampling(),
        priority=0,
        deadline_at=datetime.now(UTC) + timedelta(minutes=1),
    )
    body = body_of(request, config, model, vllm_fields=vllm_fields)
    prompt_tokens = None
    async for chunk in endpoint.stream(path_of(request, config), body):
        prompt_tokens = chunk.prompt_tokens or prompt_tokens
    return prompt_tokens
