"""Limits of batches. Every server here has its own, so no other may validate beside it."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import update

from db.models import File
from db.session import SessionFactory, transaction
from tests.api.live import error_of
from tests.api.openai.batch_files import chat_line, create, errors_of, jsonl, run, upload


@pytest.mark.usefixtures("worker")
def test_limits_of_a_batch_are_refused_just_beyond(serve: Callable[..., httpx.Client]) -> None:
    api = serve(max_batch_lines=3, max_batch_kinds=2, max_id_chars=4, max_branches=16)
    lines = [chat_line(f"p{i}", temperature=i % 2) for i in range(3)]
    assert run(api, *lines)["status"] == "in_progress"
    (code, _, _) = errors_of(run(api, *lines, chat_line("p3", temperature=0)))[0]
    assert code == "too_many_requests"
    (code, _, _) = errors_of(run(api, *lines[:2], chat_line("x", temperature=0.5)))[0]
    assert code == "too_many_kinds"
    assert errors_of(run(api, chat_line("12345"))) == [("invalid_value", "custom_id", 1)]
    refused = create(api, lines[0], slackline={"max_branches": 17})
    assert (refused.status_code, error_of(refused)["param"]) == (400, "slackline.max_branches")


def test_a_large_request_is_refused_and_without_a_key_not_even_read(
    serve: Callable[..., httpx.Client],
) -> None:
    api = serve(max_json_bytes=1000)
    response = api.post("/v1/batches", content=b" " * 1001)
    assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")
    assert "1,000 bytes" in error_of(response)["message"]
    del api.headers["Authorization"]
    assert api.post("/v1/batches", content=b" " * 1001).status_code == 401


@pytest.mark.usefixtures("worker")
def test_more_batches_than_an_hour_allows_are_told_when_to_come_back(
    serve: Callable[..., httpx.Client],
) -> None:
    api = serve(max_batches_per_h=2)
    file_id = upload(api, jsonl(chat_line())).json()["id"]
    for _ in range(2):
        assert create(api, input_file_id=file_id).status_code == 200
    response = create(api, input_file_id=file_id)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["type"] == "rate_limit_error"
    assert response.headers["retry-after"] == "120"
    assert len(api.get("/v1/batches").json()["data"]) == 2


@pytest.mark.usefixtures("worker")
def test_a_file_that_is_over_the_limit_fails_its_batch(
    serve: Callable[..., httpx.Client], sessions: SessionFactory
) -> None:
    api = serve(max_batch_file_bytes=1000)
    file_id = upload(api, jsonl(chat_line())).json()["id"]
    with transaction(sessions) as session:
        # As if it had come in under a higher limit.
        session.execute(update(File).values(num_bytes=1001))
    batch = run(api, input_file_id=file_id)
    assert errors_of(batch) == [("file_too_large", "input_file_id", None)]
    assert "larger than the 1000 maximum" in batch["errors"]["data"][0]["message"]
