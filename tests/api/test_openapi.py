"""The OpenAPI document: every call is described, with its errors and whose key it needs."""

from typing import Any

import pytest

from api.app import create_app
from api.settings import ApiSettings

DOCUMENT: dict[str, Any] = create_app(ApiSettings(database_url="postgresql://nowhere/")).openapi()
OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_call_is_described_with_its_errors(name: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    if "/v1/" not in name:
        return
    assert operation["security"] == [{"ApiKey": []}]
    assert {"400", "401", "403", "429", "503"} <= set(operation["responses"])
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorOut"}, status


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [each for part in value.values() for each in references(part)]
        if isinstance(value, list):
            return [each for part in value for each in references(part)]
        return []

    for reference in set(references(DOCUMENT)):
        assert reference.startswith("#/components/schemas/"), reference
        assert reference.rpartition("/")[2] in DOCUMENT["components"]["schemas"]
