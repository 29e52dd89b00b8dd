"""How a client wants the branches of a job prompted, sampled and read."""

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from api.schemas.text import Text
from scheduler.core.branch_options import AnswerFormat, BranchOptions, PromptFormat

MAX_SEED = 2**63 - 1


def _listed(value: Any) -> Any:
    """One string alone, or a list written as JSON, as query parameters and form fields are."""
    if not isinstance(value, str):
        return value
    try:
        listed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return [value]
    return listed if isinstance(listed, list) else [value]


StopString = Annotated[Text, Field(min_length=1, max_length=200)]


class BranchOptionsIn(BaseModel):
    """Options of all branches of a job."""

    temperature: float = Field(0.8, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Share of the probability that tokens are drawn from."
    )
    top_k: int | None = Field(
        None, ge=1, le=1_000_000, description="Number of likeliest tokens to draw from."
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        description="Each branch gets a seed of its own from it and from the id of its problem. The"
        " same split then gives the same texts, where the engine can repeat itself.",
    )
    stop: Annotated[list[StopString], BeforeValidator(_listed)] = Field(
        default=[],
        max_length=16,
        description="Strings that end a branch, not part of its text: one, or a list of up to 16.",
    )
    thinking_token_budget: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Tokens that a reasoning model may think for, on vLLM that knows how"
        " the model ends its thinking, in the worker or behind an endpoint. Elsewhere branches with"
        " it fail.",
    )
    prompt_format: PromptFormat = Field(
        PromptFormat.AUTO,
        description="`chat`: the prompt is the user's message in the model's chat template;"
        " `plain`: it is given to the model as it is; `auto`: `chat` where the model has a"
        " template.",
    )
    system_prompt: Text | None = Field(
        None, min_length=1, max_length=10_000, description="System message before each prompt."
    )
    answer_format: AnswerFormat = Field(
        AnswerFormat.AUTO,
        description="Where the final answer stands: in the last `\\boxed{...}`, after the last"
        " `####` (`hashes`), a letter from A to J (`choice`), or the last `number`; `auto`: boxed,"
        " else hashes, else what the text says that the answer is.",
    )
    closing_text: Text | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Put after the text of branches that still run when the deadline nears, such as"
        " `\\nFinal answer: \\boxed{`, so that they say what they think by then; without it they"
        " are cut off.",
    )

    @field_validator("system_prompt")
    @classmethod
    def _is_of_a_chat(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("prompt_format") is PromptFormat.PLAIN:
            raise PydanticCustomError(
                "system_prompt",
                "a plain prompt has no place for it; put it into the prompts, or leave"
                " prompt_format out",
            )
        return value

    def branch_options(self) -> BranchOptions:
        """What of this is stored beside temperature and `top_p`."""
        return BranchOptions(
            top_k=self.top_k,
            seed=self.seed,
            stop=tuple(self.stop),
            thinking_token_budget=self.thinking_token_budget,
            prompt_format=self.prompt_format,
            system_prompt=self.system_prompt,
            answer_format=self.answer_format,
            closing_text=self.closing_text,
        )
