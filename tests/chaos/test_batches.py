"""SIGKILL of the API while it reads a batch's file, and while a batch waits for its files."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.live import client_of
from tests.api.openai.batch_files import CHAT, TERMINAL, create
from tests.replay_files import MODEL, NUM_PROBLEMS
from tests.stack import Stack


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    with client_of(stack.running.api_url, stack.running.api_key) as client:
        yield client


def lines(num_lines: int) -> list[dict[str, Any]]:
    """Requests that the worker can answer, many of them the same."""
    return [
        {
            "custom_id": f"p{number}",
            "method": "POST",
            "url": CHAT,
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"Say {number % NUM_PROBLEMS}."}],
            },
        }
        for number in range(num_lines)
    ]


def wait(stack: Stack, api: httpx.Client, batch_id: str, *states: str) -> dict[str, Any]:
    """The batch, once it has one of the states; the API may be away meanwhile."""
    batch: dict[str, Any] = {}

    def is_there() -> bool:
        nonlocal batch
        try:
            batch = api.get(f"/v1/batches/{batch_id}").json()
        except httpx.TransportError:
            return False
        return batch.get("status") in {*states, *TERMINAL}

    stack.wait_until(is_there, 90.0)
    return batch


def test_a_batch_survives_the_api_that_validates_it(stack: Stack, api: httpx.Client) -> None:
    created = create(api, *lines(20_000), completion_window="1h", slackline={"best_effort": True})
    stack.kill("api")
    batch = wait(stack, api, created.json()["id"], "in_progress")
    assert batch["status"] == "in_progress", batch
    assert batch["request_counts"]["total"] == 20_000
    (job_id,) = batch["slackline"]["job_ids"]
    assert api.get(f"/v1/jobs/{job_id}").json()["num_problems"] == 20_000
    api.post(f"/v1/batches/{batch['id']}/cancel")
    stack.kill("api")
    batch = wait(stack, api, batch["id"])
    assert batch["status"] == "cancelled"
    counts = batch["request_counts"]
    assert counts["completed"] + counts["failed"] == counts["total"] == 20_000
    failed = api.get(f"/v1/files/{batch['error_file_id']}/content").text.splitlines()
    assert len({json.loads(line)["custom_id"] for line in failed}) == counts["failed"]


def test_a_batch_that_ends_while_the_api_is_away_has_its_files(
    stack: Stack, api: httpx.Client
) -> None:
    batch_id = create(api, *lines(20), completion_window="60s").json()["id"]
    wait(stack, api, batch_id, "in_progress")
    stack.kill("api")
    batch = wait(stack, api, batch_id)
    assert batch["status"] == "completed"
    output = api.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    assert {json.loads(line)["custom_id"] for line in output} == {f"p{i}" for i in range(20)}
