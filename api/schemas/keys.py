"""API keys as their tenant sees them."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.schemas.text import SomeText
from db.models import Scope

DEFAULT_GRACE_S = 86_400
MAX_GRACE_S = 30 * 86_400


class KeyIn(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"label": "ci"}]})

    label: SomeText = Field(max_length=256, description="What the key is for.")
    scopes: list[Scope] = Field(
        [Scope.SUBMIT, Scope.READ],
        min_length=1,
        max_length=len(Scope),
        description="What it may do: `read` for `GET`, `submit` for all else, `admin` for keys.",
    )
    expires_at: AwareDatetime | None = Field(None, description="It ends then; never by default.")


class RotationIn(BaseModel):
    """How to rotate a key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"grace_s": 3600}]})

    grace_s: int = Field(
        DEFAULT_GRACE_S,
        ge=0,
        le=MAX_GRACE_S,
        description="Seconds for which the secret before stays good.",
    )


class KeyOut(BaseModel):
    """A key without its secret."""

    object: Literal["api_key"] = "api_key"
    id: str
    label: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To within a minute.")
    previous_until: datetime | None = Field(
        description="Until when the secret before the last rotation is good."
    )
    revoked_at: datetime | None


class KeyWithSecret(KeyOut):
    """A key with its secret, which is shown this once."""

    secret: str


class KeyList(BaseModel):
    """All keys of the tenant that were not revoked, oldest first."""

    object: Literal["list"] = "list"
    data: list[KeyOut]
