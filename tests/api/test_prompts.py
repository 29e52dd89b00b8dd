"""Prompts that cannot fit the model's context are refused before anything is stored."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.live import error_of, job_body
from tests.factories import MODEL, engine_spec

LIMIT_CHARS = int(engine_spec().max_model_len * engine_spec().chars_per_token)
"""Characters of the shortest prompt that leaves no room for an answer."""


def problem_set(*lengths: int) -> list[dict[str, Any]]:
    return [{"id": f"p{n}", "prompt": "x" * length} for n, length in enumerate(lengths)]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/quotes"])
def test_a_prompt_without_room_for_an_answer_is_named_and_nothing_is_stored(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]], path: str
) -> None:
    problems = problem_set(3, LIMIT_CHARS, 5, 2 * LIMIT_CHARS)

    response = api.post(path, json=job_body(problems=problems))

    error = error_of(response)
    assert response.status_code == 400
    assert (error["code"], error["param"]) == ("prompt_too_long", "problems[1].prompt")
    for words in ("'p1' has about 512 tokens", "takes 512 tokens", "Shorten", "1 more is too long"):
        assert words in error["message"]
    assert not any(stored_rows().values())
    assert api.get("/v1/refusals").json()["data"] == []


def test_in_json_lines_the_line_is_named(api: httpx.Client) -> None:
    lines = [json.dumps(problem) for problem in problem_set(3, LIMIT_CHARS)]

    response = api.post(
        "/v1/jobs",
        content="\n\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
        params={"model": MODEL, "deadline": "1h"},
    )

    error = error_of(response)
    assert (error["code"], error["line"]) == ("prompt_too_long", 3)
    assert error["message"].startswith("Line 3: ")
    assert "too long.)" not in error["message"]


def test_a_prompt_that_leaves_room_for_one_token_is_accepted(api: httpx.Client) -> None:
    response = api.post("/v1/jobs", json=job_body(problems=problem_set(LIMIT_CHARS - 1)))

    assert response.status_code == 201, response.text
