"""What a line may not exceed; it is refused alone, with the error that it would have got."""

from dataclasses import dataclass

from api.errors import ApiError, invalid
from api.openai.bodies import PROMPT_FIELDS, LineOptions
from api.schemas.batches import BatchOptions
from api.schemas.grading import RegexIn
from api.settings import ApiSettings
from db.models import OpenaiBatch


@dataclass(frozen=True, slots=True)
class PromptLimit:
    """How long prompts of a model may be.

    Attributes:
        chars: Characters from which a prompt leaves no room for an answer.
        tokens: Context of the model.
    """

    chars: float
    tokens: int


def check_lengths(
    prompt: str,
    options: LineOptions,
    endpoint: str,
    settings: ApiSettings,
    limit: PromptLimit | None,
) -> None:
    """Refuse texts that are too long.

    Raises:
        ApiError: 400.
    """
    field_name = PROMPT_FIELDS[endpoint]
    if len(prompt) > settings.max_prompt_chars:
        raise ApiError(
            400,
            "string_above_max_length",
            f"The prompt has {len(prompt):,} characters; at most {settings.max_prompt_chars:,} are"
            " allowed.",
            param=field_name,
        )
    if limit is not None and len(prompt) >= limit.chars:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"The prompt has about {len(prompt) / limit.chars * limit.tokens:,.0f} tokens, which"
            f" leaves no room for an answer: the model takes {limit.tokens:,} tokens, prompt and"
            " answer together. Shorten the prompt.",
            param=field_name,
        )
    reference = options.reference_answer
    if reference is not None and len(reference) > settings.max_reference_chars:
        raise invalid(
            "slackline.reference_answer",
            f"The reference answer has {len(reference):,} characters; at most"
            f" {settings.max_reference_chars:,} are allowed.",
        )


def check_grading(batch: OpenaiBatch, options: LineOptions) -> None:
    """Refuse a pattern that is missing; a reference answer is not taken for one here.

    Raises:
        ApiError: 400.
    """
    grading = options.grading or BatchOptions.model_validate(batch.options).grading
    if isinstance(grading, RegexIn) and grading.pattern is None:
        raise invalid(
            "slackline.grading.pattern",
            "The grading is by a regular expression and there is none. Give a 'pattern'.",
        )
