"""What a worker is told of the server that it stands in front of."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class EndpointSettings(BaseModel):
    """An OpenAI-compatible server.

    Attributes:
        base_url: Address of its API, such as `http://localhost:8000/v1`.
        api_key: Sent as the bearer token. Set it in the environment, not on a command line.
        api: How a prompt is sent whose job does not say: as the user's message of a chat, to which
            the server applies the model's template, or as it is.
        max_model_len: Prompt plus completion tokens; by default what the server says.
        num_speculative_tokens: Draft length that the server was started with; 0 is off.
        draft_per_branch: The server takes the draft length of each branch in
            `vllm_xargs.draft_len`, up to `num_speculative_tokens`.
        send_priority: The server schedules by priority: send deadlines as priorities.
        vllm_fields: Send fields that vLLM and its kin know and that others may refuse. By default
            to a server whose models are owned by `vllm`.
        retry_s: A branch whose connection fails is tried again for so long, or until its deadline.
    """

    model_config = ConfigDict(extra="forbid")

    base_url: str | None = None
    api_key: SecretStr | None = None
    api: Literal["chat", "completions"] = "chat"
    max_model_len: int | None = Field(default=None, ge=2)
    num_speculative_tokens: int = Field(default=0, ge=0, le=64)
    draft_per_branch: bool = False
    send_priority: bool = False
    vllm_fields: bool | None = None
    retry_s: float = Field(default=30.0, ge=0)

    @field_validator("base_url")
    @classmethod
    def _with_path(cls, url: str | None) -> str | None:
        """Complete an address without a path, which cannot be an API, with `/v1`."""
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{url!r} is no address such as http://localhost:8000/v1")
        return (f"{url.rstrip('/')}/v1" if parts.path in ("", "/") else url).rstrip("/")

    @property
    def draft_lengths(self) -> tuple[int, ...]:
        """What a branch may ask for."""
        longest = self.num_speculative_tokens
        return tuple(range(longest + 1)) if self.draft_per_branch else (longest,)
