"""Text that the store can hold."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _storable(text: str) -> str:
    """Refuse what Postgres text cannot hold."""
    if "\0" in text:
        raise PydanticCustomError("nul", "it contains a NUL character; remove it")
    return text


Text = Annotated[str, AfterValidator(_storable)]

SomeText = Annotated[str, Field(min_length=1), AfterValidator(_storable)]
"""Text that is not empty. The length stands first, where pydantic checks it without Python."""
