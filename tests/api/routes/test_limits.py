"""Limits on a submission: refused just beyond with a message that states them, fine at the edge."""

import json
from collections.abc import Callable

import httpx
import pytest

from tests.api.live import error_of, job_body
from tests.factories import MODEL

OPTIONS = {"model": MODEL, "deadline": "1h"}
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.mark.usefixtures("worker")
def test_limits_are_refused_just_beyond_and_accepted_at_their_edge(
    serve: Callable[..., httpx.Client], stored_rows: Callable[[], dict[str, int]]
) -> None:
    api = serve(max_problems=3, max_prompt_chars=10, max_id_chars=9, max_reference_chars=4)

    def attempt(num_problems: int, prompt: int, key: int, reference: int) -> httpx.Response:
        problems = [{"prompt": "x"} for _ in range(num_problems - 1)]
        edge = {"id": "k" * key, "prompt": "\u00e9" * prompt, "reference_answer": "r" * reference}
        return api.post("/v1/jobs", json=job_body(problems=[*problems, edge]))

    for sizes, status, code, words in (
        ((4, 10, 9, 4), 413, "too_many_problems", "more than 3 problems"),
        ((1, 11, 9, 4), 400, "prompt_too_long", "at most 10"),
        ((1, 10, 10, 4), 400, "id_too_long", "at most 9"),
        ((1, 10, 9, 5), 400, "reference_answer_too_long", "at most 4"),
    ):
        response = attempt(*sizes)
        error = error_of(response)
        assert (response.status_code, error["code"]) == (status, code)
        assert words in error["message"]
        assert not any(stored_rows().values())

    assert attempt(3, 10, 9, 4).status_code == 201


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("form", ["lines", "upload"])
def test_a_body_over_its_limit_is_a_413_and_one_at_the_limit_is_read(
    serve: Callable[..., httpx.Client],
    stored_rows: Callable[[], dict[str, int]],
    form: str,
    is_chunked: bool,
) -> None:
    limit = 100_000
    api = serve(max_body_bytes=limit)

    def attempt(num_bytes: int) -> httpx.Response:
        line = json.dumps({"prompt": "x"}).encode()
        content = line.ljust(num_bytes - 200 if form == "upload" else num_bytes)
        headers = dict(NDJSON)
        if form == "upload":
            headers = {"Content-Type": "multipart/form-data; boundary=cut"}
            head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
            content = (head + content + b"\r\n--cut--\r\n").rjust(num_bytes, b"\n")[:num_bytes]
        body = iter([content[:70_000], content[70_000:]]) if is_chunked else content
        return api.post("/v1/jobs", content=body, headers=headers, params=OPTIONS)

    for num_bytes in (limit + 1, 40 * limit):
        response = attempt(num_bytes)
        error = error_of(response)
        assert (response.status_code, error["code"]) == (413, "body_too_large")
        assert "100,000 bytes" in error["message"]
        assert not any(stored_rows().values())

    if form == "lines":
        assert attempt(limit).status_code == 201


@pytest.mark.usefixtures("worker")
def test_a_json_document_has_a_lower_limit_that_points_to_json_lines(
    serve: Callable[..., httpx.Client], stored_rows: Callable[[], dict[str, int]]
) -> None:
    response = serve(max_json_bytes=1_000).post("/v1/jobs", json=job_body(100))

    error = error_of(response)
    assert (response.status_code, error["code"]) == (413, "body_too_large")
    assert "1,000 bytes" in error["message"]
    assert "200,000,000 bytes as JSON Lines" in error["message"]
    assert not any(stored_rows().values())
