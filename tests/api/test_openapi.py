"""The OpenAPI document: every call is described, with examples that are of the documented form."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.app import create_app
from api.examples import recorded
from api.settings import ApiSettings
from tests.console import shown_again, steps_of
from tests.record_examples import PAGE, operation_of

DOCUMENT: dict[str, Any] = create_app(ApiSettings(database_url="postgresql://nowhere/")).openapi()
OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
IDS = [name for name, _ in OPERATIONS]


def errors_of(schema: dict[str, Any], example: Any) -> list[str]:
    """What keeps an example from being of a form of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(example)]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=IDS)
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


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=IDS)
def test_every_call_has_a_recorded_example_of_its_form(
    name: str, operation: dict[str, Any]
) -> None:
    example = recorded()[name]
    response = operation["responses"][str(example["status"])]
    if name == "GET /metrics":  # It is of the form that Prometheus defines.
        assert "content" not in response
        return
    form = response["content"][example["response_type"]]
    assert form["example"] == example["response"]
    if example["response_type"] == "application/json":
        assert errors_of(form["schema"], example["response"]) == []
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        assert body["example"] == example["request"]
        assert errors_of(body["schema"], example["request"]) == []


def test_no_example_is_of_a_call_that_is_gone() -> None:
    assert set(recorded()) <= set(IDS)


def test_the_page_shows_the_run_that_the_examples_are_from() -> None:
    """`python -m tests.record_examples` writes both."""
    shown: dict[str, str] = {}
    for step in steps_of(PAGE):
        operation = operation_of(step, DOCUMENT["paths"])
        if operation is not None and not step.output.startswith('{"error":'):
            shown.setdefault(operation, step.output)
    assert shown.keys() == recorded().keys()
    for operation, output in shown.items():
        response = recorded()[operation]["response"]
        if not isinstance(response, str):  # Of texts only the beginning is recorded.
            real = json.dumps(response, ensure_ascii=False, separators=(",", ":"))
            assert shown_again(output, real) == output, operation


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
