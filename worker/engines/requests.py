"""Which branch requests can run, and what to change about those that cannot."""

from scheduler.core.plan import EngineSpec
from worker.engines.base import BranchRequest


def refusal(request: BranchRequest, num_prompt_tokens: int, spec: EngineSpec) -> str | None:
    """Returns why a request can never run and what to change, or None when it can."""
    sampling = request.sampling
    if num_prompt_tokens == 0:
        return "the prompt is empty; send at least one token"
    if num_prompt_tokens >= spec.max_model_len:
        return (
            f"the prompt has {num_prompt_tokens} tokens and the model takes {spec.max_model_len}, "
            f"completion included; shorten it to {spec.max_model_len - 1} at most"
        )
    if request.num_speculative_tokens not in spec.draft_lengths:
        return (
            f"num_speculative_tokens {request.num_speculative_tokens} is not served; "
            f"use one of {', '.join(map(str, spec.draft_lengths))}"
        )
    if request.max_tokens < 1:
        return f"max_tokens is {request.max_tokens}; use 1 or more"
    if not sampling.temperature >= 0:
        return f"temperature is {sampling.temperature}; use 0 or more"
    if not 0 < sampling.top_p <= 1:
        return f"top_p is {sampling.top_p}; use a value above 0 and at most 1"
    return None
