"""Bodies that routes read themselves, for the OpenAPI document."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.schemas.operations import ErrorOut

COMPONENT = "#/components/schemas/{model}"

TOO_LARGE: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorOut, "description": "The body is too large."}
}

_bodies: set[type[BaseModel]] = set()


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """A JSON body of this form, as `openapi_extra` of its route."""
    _bodies.add(model)
    schema = {"$ref": COMPONENT.format(model=model.__name__)}
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def body_schemas() -> dict[str, Any]:
    """The bodies of `body_of` and their parts by name."""
    models = sorted(_bodies, key=lambda model: model.__name__)
    _, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template=COMPONENT
    )
    parts: dict[str, Any] = schema["$defs"]
    return parts
