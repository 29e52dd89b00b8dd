"""Which branch requests can run, and what to change about those that cannot."""

from collections.abc import Callable, Iterable, Iterator

from scheduler.core.plan import EngineSpec
from worker.engines.base import BranchRequest


def refusal(
    request: BranchRequest, num_prompt_tokens: int, spec: EngineSpec, *, can_budget: bool = False
) -> str | None:
    """Returns why a request can never run and what to change, or None when it can.

    Args:
        can_budget: Whether the engine can end the thinking of a model.
    """
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
    if sampling.top_k is not None and sampling.top_k < 1:
        return f"top_k is {sampling.top_k}; use 1 or more, or leave it out"
    if "" in sampling.stop:
        return "a stop string is empty; leave it out"
    if sampling.thinking_token_budget is not None and not can_budget:
        return (
            f"the {spec.engine} engine takes no thinking_token_budget; leave it out, or put the"
            " worker in front of a vLLM server"
        )
    return None


def encoded(
    requests: Iterable[BranchRequest], encode: Callable[[BranchRequest], list[int]]
) -> Iterator[tuple[BranchRequest, list[int], str | None]]:
    """Each request with what the model reads for it, or with why the model cannot be asked so.

    Branches of a problem have one prompt, which is encoded once.

    Args:
        encode: Raises `ValueError` for what the model cannot be asked.
    """
    ids_by_prompt: dict[tuple[object, ...], list[int]] = {}
    for request in requests:
        asked = (request.prompt, request.turns, request.prompt_format, request.system_prompt)
        prompt = (*asked, request.partial)
        try:
            if prompt not in ids_by_prompt:
                ids_by_prompt[prompt] = encode(request)
        except ValueError as error:
            yield request, [], str(error)
        else:
            yield request, ids_by_prompt[prompt], None


def check_plain(request: BranchRequest) -> None:
    """Refuse what a plain prompt has no place for.

    Raises:
        ValueError: It has a system prompt.
    """
    if request.system_prompt is not None:
        raise ValueError(
            "a system prompt needs a model with a chat template and prompt_format chat or auto;"
            " put it into the prompts"
        )
