"""What a job says of its branches beyond the plan: how they are prompted, sampled and read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class PromptFormat(StrEnum):
    """How a prompt is given to the model.

    `auto` is `chat` where the model has a chat template and `plain` where it has none.
    """

    AUTO = "auto"
    CHAT = "chat"
    PLAIN = "plain"


class AnswerFormat(StrEnum):
    """Where the final answer stands in the text of a branch.

    `auto` is `boxed`, else `hashes`, else what the text states to be the answer.
    """

    AUTO = "auto"
    BOXED = "boxed"
    HASHES = "hashes"
    CHOICE = "choice"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class BranchOptions:
    """Options of all branches of a job, besides temperature and `top_p`.

    Attributes:
        top_k: Number of likeliest tokens to draw from; None for all.
        seed: From which each branch gets a seed of its own.
        stop: Strings that end a branch; they are not part of its text.
        thinking_token_budget: Tokens that a reasoning model may think for; None for no limit.
        closing_text: What is put after the text of branches that still run when the deadline
            nears, so that they say an answer; None cuts them off.
    """

    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    thinking_token_budget: int | None = None
    prompt_format: PromptFormat = PromptFormat.AUTO
    system_prompt: str | None = None
    answer_format: AnswerFormat = AnswerFormat.AUTO
    closing_text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BranchOptions":
        """Read what `to_dict` wrote; what an older release did not know has its default."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        for name, kind in (
            ("prompt_format", PromptFormat),
            ("answer_format", AnswerFormat),
            ("stop", tuple),
        ):
            if name in known:
                known[name] = kind(known[name])
        return cls(**known)
