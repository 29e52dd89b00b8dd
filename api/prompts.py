"""Lengths of prompts in tokens, estimated from characters: engines read prompts later."""

from api.errors import invalid
from api.problem_set import ProblemSet
from api.schemas.submission import SetOptions
from scheduler.core.fleet import Fleet
from scheduler.core.snapshot import Snapshot


def chars_per_token(snapshot: Snapshot, model: str) -> float:
    """Characters per token by the workers of a model, the fewest of any; 1 when there are none."""
    return min(
        (w.spec.chars_per_token for w in snapshot.workers if w.spec.model == model), default=1.0
    )


def prompt_tokens(snapshot: Snapshot, options: SetOptions, mean_chars: float) -> float:
    """Mean prompt length in tokens, the system prompt included."""
    num_chars = mean_chars + len(options.system_prompt or "")
    return max(1.0, num_chars / chars_per_token(snapshot, options.model))


def check_fit(problems: ProblemSet, fleet: Fleet, snapshot: Snapshot) -> None:
    """Refuse a set with prompts that leave no room for an answer.

    Raises:
        ApiError: 400 that names the first of them and counts the rest.
    """
    model = fleet.members[0].spec.model
    per_token = chars_per_token(snapshot, model)
    limit_chars = fleet.max_model_len * per_token
    if problems.max_prompt_chars < limit_chars:
        return
    too_long = (found for found in problems.placed() if len(found[1].prompt) >= limit_chars)
    place, problem = next(too_long)
    num_more = sum(1 for _ in too_long)
    more = f" ({num_more:,} more {'is' if num_more == 1 else 'are'} too long.)" if num_more else ""
    raise place.error(
        "prompt_too_long",
        "prompt",
        f"the prompt of '{problem.id}' has about {len(problem.prompt) / per_token:,.0f} tokens,"
        f" which leaves no room for an answer: '{model}' takes {fleet.max_model_len:,} tokens,"
        " prompt and answer together. Shorten the prompt, leave the problem out, or ask a model"
        f" with a longer context.{more}",
    )


def check_mean_fits(mean_prompt_tokens: float, fleet: Fleet, *, param: str) -> None:
    """Refuse prompts that leave no room for an answer on average.

    Raises:
        ApiError: 400 about the parameter.
    """
    if mean_prompt_tokens >= fleet.max_model_len:
        raise invalid(
            param,
            f"Prompts of {mean_prompt_tokens:,.0f} tokens leave no room for an answer:"
            f" '{fleet.members[0].spec.model}' takes {fleet.max_model_len:,} tokens, prompt and"
            " answer together.",
            code="prompt_too_long",
        )
