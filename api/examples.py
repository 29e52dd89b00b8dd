"""Examples for the OpenAPI document: real calls and answers, recorded from `docs/api.md`.

`python -m tests.record_examples` runs the commands of that page and writes `examples.json` anew.
"""

from functools import cache
from pathlib import Path
from typing import Any

import orjson


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """By method and path: `status`, `response` and, of calls with a body, `request`.

    `request_type` and `response_type` are their content types.
    """
    examples: dict[str, dict[str, Any]] = orjson.loads(
        Path(__file__).with_name("examples.json").read_bytes()
    )
    return examples


def add_examples(document: dict[str, Any]) -> None:
    """Put the examples into an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            example = recorded().get(f"{method.upper()} {path}")
            if example is None:
                continue
            response = operation["responses"].get(str(example["status"]), {})
            for part, side in (
                (operation.get("requestBody", {}), "request"),
                (response, "response"),
            ):
                content = part.get("content", {}).get(example.get(f"{side}_type"))
                if content is not None:
                    content["example"] = example[side]
