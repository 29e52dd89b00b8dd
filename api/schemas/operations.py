"""Health and errors."""

from typing import Literal

from pydantic import BaseModel


class HealthOut(BaseModel):
    """`ok`, or the request answers 503."""

    status: Literal["ok"] = "ok"


class ErrorDetail(BaseModel):
    """What went wrong and what to do; some codes add fields."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorOut(BaseModel):
    """The one error envelope."""

    error: ErrorDetail
