"""Asks a server at the start of a worker what it offers, and whether it can be used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from worker.engines.base import BranchRequest, Sampling
from worker.engines.openai.endpoint import Endpoint, EndpointError, OfferedModel
from worker.engines.openai.settings import EndpointSettings
from worker.engines.openai.wire import Offer, body_of, path_of

_SAMPLE_TEXT = (
    "A train leaves at 9:40 and covers 126 miles in 3 hours. What is its speed? Another one leaves"
    " the same station 25 minutes later and is 15 miles per hour faster. When does it catch up?"
)
"""Tells how many characters of a problem make a token."""
_TEMPLATE_TOKENS = 20
"""About what a chat template puts around a short message."""
_USUAL_CHARS_PER_TOKEN = 3.5


async def probe(endpoint: Endpoint, settings: EndpointSettings, model: str | None) -> Offer:
    """Find the model and decode one token with it.

    Raises:
        EndpointError: The server cannot be used; the message says what to set.
    """
    chosen = _choose(await endpoint.models(), model, settings)
    max_model_len = settings.max_model_len or chosen.max_model_len
    if max_model_len is None:
        raise EndpointError(
            f"the server at {settings.base_url} does not say how many tokens {chosen.name!r} takes;"
            " set --max-model-len to its context length",
            is_transient=False,
        )
    vllm_fields = settings.vllm_fields
    if vllm_fields is None:
        vllm_fields = chosen.owned_by == "vllm"
    offer = Offer(chosen.name, max_model_len, vllm_fields, _USUAL_CHARS_PER_TOKEN)
    prompt_tokens = await _first_token(endpoint, settings, offer)
    if not prompt_tokens:
        return offer
    if settings.api == "chat":
        prompt_tokens = max(prompt_tokens - _TEMPLATE_TOKENS, 1)
    return replace(offer, chars_per_token=len(_SAMPLE_TEXT) / prompt_tokens)


def _choose(
    offered: list[OfferedModel], model: str | None, settings: EndpointSettings
) -> OfferedModel:
    names = ", ".join(repr(each.name) for each in offered) or "none"
    if model is None:
        if len(offered) == 1:
            return offered[0]
        raise EndpointError(
            f"choose a model of the server at {settings.base_url} with --model; it offers: {names}",
            is_transient=False,
        )
    for each in offered:
        if each.name == model:
            return each
    raise EndpointError(
        f"the server at {settings.base_url} does not offer the model {model!r};"
        f" set --model to one that it does: {names}",
        is_transient=False,
    )


async def _first_token(endpoint: Endpoint, settings: EndpointSettings, offer: Offer) -> int | None:
    """Decode one token; returns the tokens of the sample's prompt, where the server tells."""
    request = BranchRequest(
        branch_id="probe",
        prompt=_SAMPLE_TEXT,
        branch_index=0,
        num_speculative_tokens=settings.num_speculative_tokens,
        max_tokens=1,
        sampling=Sampling(),
        priority=0,
        deadline_at=datetime.now(UTC) + timedelta(minutes=1),
    )
    prompt_tokens = None
    try:
        body = body_of(request, settings, offer)
        async for chunk in endpoint.stream(path_of(request, settings), body):
            prompt_tokens = chunk.prompt_tokens or prompt_tokens
    except EndpointError as error:
        if not error.is_refusal or settings.api != "chat":
            raise
        message = f"{error}; for a model without a chat template set --api completions"
        raise EndpointError(message, is_transient=False) from None
    return prompt_tokens
