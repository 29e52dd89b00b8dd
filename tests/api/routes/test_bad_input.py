"""Bad input: a 4xx with the envelope that says what to do, and nothing stored."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.live import error_of, job_body
from tests.factories import MODEL

OPTIONS = {"model": MODEL, "deadline": "1h"}
NDJSON = {"Content-Type": "application/x-ndjson"}
PAST = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


def without(name: str) -> dict[str, Any]:
    body = job_body()
    del body[name]
    return body


BAD_DOCUMENTS: list[tuple[str, dict[str, Any], str | None, str, str]] = [
    # name, body, param, code, words of the message
    ("no model", without("model"), "model", "missing_required_parameter", "'model'"),
    ("no deadline", without("deadline"), "deadline", "missing_required_parameter", "'deadline'"),
    ("no problems", without("problems"), "problems", "missing_required_parameter", "'problems'"),
    ("no such model", job_body(model="gpt-9"), "model", "model_not_found", f"models: {MODEL}"),
    ("empty set", job_body(problems=[]), "problems", "empty_problem_set", "at least one"),
    ("problems no list", job_body(problems={}), "problems", "invalid_type", "list"),
    ("past deadline", job_body(deadline=PAST), "deadline", "invalid_deadline", "in the past"),
    ("deadline now", job_body(deadline="0s"), "deadline", "invalid_deadline", "in the past"),
    ("deadline soon", job_body(deadline="0.9s"), "deadline", "invalid_deadline", "at least 1 s"),
    ("deadline far", job_body(deadline="8d"), "deadline", "invalid_deadline", "at most 7 days"),
    ("huge deadline", job_body(deadline="999999999d"), "deadline", "invalid_deadline", "7 days"),
    ("deadline words", job_body(deadline="soon"), "deadline", "invalid_deadline", '"90s"'),
    ("deadline sign", job_body(deadline="-5m"), "deadline", "invalid_deadline", "RFC 3339"),
    (
        "deadline without offset",
        job_body(deadline="2030-01-01T00:00:00"),
        "deadline",
        "invalid_deadline",
        "with an offset",
    ),
    (
        "deadline no such day",
        job_body(deadline="2030-02-30T00:00:00Z"),
        "deadline",
        "invalid_deadline",
        "Cannot read",
    ),
    ("deadline a number", job_body(deadline=90), "deadline", "invalid_value", "string"),
    ("no branches", job_body(max_branches=0), "max_branches", "invalid_value", "or equal to 1"),
    ("negative", job_body(max_branches=-4), "max_branches", "invalid_value", "or equal to 1"),
    ("65 branches", job_body(max_branches=65), "max_branches", "invalid_value", "at most 64"),
    ("huge", job_body(max_branches=10**30), "max_branches", "invalid_value", "max_branches"),
    ("half a branch", job_body(max_branches=1.5), "max_branches", "invalid_value", "integer"),
    ("no tokens", job_body(max_tokens=0), "max_tokens", "invalid_value", "or equal to 1"),
    ("huge tokens", job_body(max_tokens=2**40), "max_tokens", "invalid_value", "1000000"),
    ("cold", job_body(temperature=-0.1), "temperature", "invalid_value", "or equal to 0"),
    ("hot", job_body(temperature=2.1), "temperature", "invalid_value", "or equal to 2"),
    ("no top_p", job_body(top_p=0), "top_p", "invalid_value", "greater than 0"),
    ("top_p over 1", job_body(top_p=1.01), "top_p", "invalid_value", "or equal to 1"),
    ("no top_k", job_body(top_k=0), "top_k", "invalid_value", "or equal to 1"),
    ("negative seed", job_body(seed=-1), "seed", "invalid_value", "or equal to 0"),
    ("huge seed", job_body(seed=2**63), "seed", "invalid_value", "seed"),
    ("empty stop", job_body(stop=["a", ""]), "stop[1]", "invalid_value", "at least 1"),
    ("17 stops", job_body(stop=["a"] * 17), "stop", "invalid_value", "at most 16"),
    ("long stop", job_body(stop="a" * 201), "stop[0]", "invalid_value", "at most 200"),
    ("stop a number", job_body(stop=[1]), "stop[0]", "invalid_value", "string"),
    (
        "thinking",
        job_body(thinking_token_budget=-1),
        "thinking_token_budget",
        "invalid_value",
        "or equal to 0",
    ),
    (
        "format",
        job_body(answer_format="boxes"),
        "answer_format",
        "invalid_value",
        "'boxed', 'hashes'",
    ),
    ("prompts", job_body(prompt_format="raw"), "prompt_format", "invalid_value", "'chat'"),
    (
        "plain system prompt",
        job_body(prompt_format="plain", system_prompt="Be brief."),
        "system_prompt",
        "invalid_value",
        "leave prompt_format out",
    ),
    ("NUL in stop", job_body(stop="a\0"), "stop[0]", "invalid_value", "NUL"),
    ("accuracy 1.5", job_body(min_accuracy=1.5), "min_accuracy", "invalid_value", "or equal to 1"),
    ("no weight", job_body(weight=0), "weight", "invalid_value", "greater than 0"),
    ("typo", job_body(max_brunches=3), "max_brunches", "unknown_parameter", "Remove it"),
    ("NUL in name", job_body(name="a\0b"), "name", "invalid_value", "NUL"),
    (
        "duplicate ids",
        job_body(problems=[{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]),
        "problems[1].id",
        "duplicate_id",
        "'a' is already that of problems[0]",
    ),
    (
        "default id taken",
        job_body(problems=[{"id": "problem-2", "prompt": "x"}, {"prompt": "y"}]),
        "problems[1].id",
        "duplicate_id",
        "problem-2",
    ),
    (
        "no prompt",
        job_body(problems=[{"id": "a"}]),
        "problems[0].prompt",
        "missing_required_parameter",
        "'prompt'",
    ),
    (
        "empty prompt",
        job_body(problems=[{"prompt": ""}]),
        "problems[0].prompt",
        "invalid_value",
        "at least 1 character",
    ),
    (
        "NUL in prompt",
        job_body(problems=[{"prompt": "a\0b"}]),
        "problems[0].prompt",
        "invalid_value",
        "NUL",
    ),
    (
        "a problem of text",
        job_body(problems=["1+1="]),
        "problems[0].prompt",
        "invalid_problem",
        "object",
    ),
    (
        "an unknown field",
        job_body(problems=[{"prompt": "x", "answer": "2"}]),
        "problems[0].answer",
        "unknown_parameter",
        "'answer'",
    ),
]


@pytest.fixture
def nothing_stored(stored_rows: Callable[[], dict[str, int]]) -> Iterator[None]:
    """Fails the test when a request stored something."""
    yield
    assert not any(stored_rows().values())


@pytest.mark.usefixtures("nothing_stored")
def test_a_bad_document_is_refused_and_nothing_is_stored(api: httpx.Client) -> None:
    for name, body, param, code, words in BAD_DOCUMENTS:
        response = api.post("/v1/jobs", json=body, headers={"Idempotency-Key": name})

        error = error_of(response)
        assert response.status_code == 400, name
        assert (error["code"], error["param"]) == (code, param), (name, error)
        assert words in error["message"], (name, error)
        assert error["type"] == "invalid_request_error"


BAD_LINES = [
    (b'{"prompt": "a"}\n{"prompt": \n{"prompt": "c"}\n', 2, "invalid_json_line"),
    (b'{"prompt": "a"}\n\n\nnot json', 4, "invalid_json_line"),
    (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', 2, "invalid_json_line"),
    (b'{"prompt": "\\ud800"}\n', 1, "invalid_json_line"),
    (b"[" * 100_000, 1, "invalid_json_line"),
    (b'[{"prompt": "a"}]\n', 1, "invalid_problem"),
    (b'{"prompt": "a"}\n{"id": "b"}\n', 2, "missing_required_parameter"),
    (b'{"id": "a", "prompt": "a"}\n\n{"id": "a", "prompt": "b"}\n', 3, "duplicate_id"),
    (b'{"prompt": "a"}\n{"prompt": 7.5, "id": []}\n', 2, "invalid_value"),
]


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("is_upload", [False, True])
def test_a_bad_line_is_named_by_its_number(api: httpx.Client, is_upload: bool) -> None:
    for content, line, code in BAD_LINES:
        if is_upload:
            response = api.post("/v1/jobs", files={"file": ("set.jsonl", content)}, data=OPTIONS)
        else:
            response = api.post("/v1/jobs", content=content, headers=NDJSON, params=OPTIONS)

        error = error_of(response)
        assert response.status_code == 400
        assert (error["code"], error["line"]) == (code, line)
        assert error["message"].startswith(f"Line {line}: ")


BAD_REQUESTS: list[tuple[dict[str, Any], int, str]] = [
    ({"content": b"", "headers": NDJSON, "params": OPTIONS}, 400, "empty_problem_set"),
    ({"content": b"\n \n", "headers": NDJSON, "params": OPTIONS}, 400, "empty_problem_set"),
    ({"content": b'{"prompt": "a"}', "headers": NDJSON}, 400, "missing_required_parameter"),
    (
        {"content": b'{"prompt": "a"}', "headers": NDJSON, "params": {**OPTIONS, "n": "2"}},
        400,
        "unknown_parameter",
    ),
    (
        {
            "content": b'{"prompt": "a"}',
            "headers": NDJSON,
            "params": [*OPTIONS.items(), ("model", "other")],
        },
        400,
        "invalid_value",
    ),
    ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json"),
    ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json"),
    ({"json": [1, 2]}, 400, "invalid_type"),
    ({"json": job_body(), "params": {"model": MODEL}}, 400, "unknown_parameter"),
    ({"content": b"{}"}, 415, "unsupported_media_type"),
    ({"data": {"model": MODEL}}, 415, "unsupported_media_type"),
    ({"files": {"set": ("set.jsonl", b"{}")}, "data": OPTIONS}, 400, "invalid_value"),
    (
        {"files": [("file", ("a", b"{}")), ("file", ("b", b"{}"))], "data": OPTIONS},
        400,
        "bad_request",
    ),
    (
        {
            "content": b"--x\r\nbroken",
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        400,
        "invalid_value",
    ),
    (
        {"content": b"a", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "bad_request",
    ),
    ({"json": job_body(), "headers": {"Idempotency-Key": "k" * 256}}, 400, "invalid_value"),
]


@pytest.mark.usefixtures("nothing_stored")
def test_a_bad_request_is_refused_and_nothing_is_stored(api: httpx.Client) -> None:
    for request_parts, status, code in BAD_REQUESTS:
        response = api.post("/v1/jobs", **request_parts)

        assert response.status_code == status, (request_parts, response.text)
        assert error_of(response)["code"] == code


@pytest.mark.usefixtures("nothing_stored")
def test_a_wrong_key_is_refused_before_the_body_is_read(api: httpx.Client) -> None:
    del api.headers["Authorization"]
    for authorization in (None, "Bearer sk-slk-wrong", "Bearer", "Basic abc", "sk-slk-local"):
        headers = {"Authorization": authorization} if authorization else {}

        response = api.post("/v1/jobs", content=b"not json", headers=headers | NDJSON)

        assert response.status_code == 401
        assert error_of(response)["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("nothing_stored", "worker")
def test_the_local_key_is_nothing_without_the_embedded_mode(
    serve: Callable[..., httpx.Client],
) -> None:
    for local_key in (None, ""):
        response = serve(local_key=local_key).post("/v1/jobs", json=job_body())

        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
