"""Files as the OpenAI API shows them."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field


class UploadPurpose(StrEnum):
    """What a file may be uploaded for; only `batch` is of use here."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"


BATCH_OUTPUT = "batch_output"
"""Purpose of the files that batches write."""


class FileOut(BaseModel):
    """A file. Instants are Unix seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = Field(
        description="`uploaded` while a batch still writes it."
    )
    status_details: str | None = None


class FilePage(BaseModel):
    """Files by age."""

    object: Literal["list"] = "list"
    data: list[FileOut]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Pass `last_id` as `after` for the next page.")


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
