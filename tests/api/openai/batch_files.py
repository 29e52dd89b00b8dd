"""Files of batches and the calls around them, for tests that speak HTTP themselves."""

import json
import time
from typing import Any

import httpx

from tests.factories import MODEL

CHAT = "/v1/chat/completions"
TERMINAL = {"completed", "failed", "expired", "cancelled"}


def chat_line(custom_id: str = "a", **body: Any) -> dict[str, Any]:
    """A line that is valid by default."""
    messages = [{"role": "user", "content": "1+1="}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": MODEL, "messages": messages, **body},
    }


def jsonl(*lines: Any) -> bytes:
    """Lines as a file."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(api: httpx.Client, content: bytes, **fields: str) -> httpx.Response:
    """Upload a file for a batch."""
    form = {"purpose": "batch"} | fields
    return api.post("/v1/files", files={"file": ("set.jsonl", content)}, data=form)


def create(api: httpx.Client, *lines: Any, **fields: Any) -> httpx.Response:
    """Create a batch of these lines."""
    if "input_file_id" not in fields:
        fields["input_file_id"] = upload(api, jsonl(*lines)).json()["id"]
    body = {"endpoint": CHAT, "completion_window": "1h"} | fields
    return api.post("/v1/batches", json=body)


def wait(api: httpx.Client, batch_id: str, *states: str) -> dict[str, Any]:
    """Poll until one of the states, or an end."""
    give_up_at = time.monotonic() + 30
    while True:
        batch: dict[str, Any] = api.get(f"/v1/batches/{batch_id}").json()
        if batch["status"] in TERMINAL | set(states):
            return batch
        assert time.monotonic() < give_up_at, batch
        time.sleep(0.02)


def run(api: httpx.Client, *lines: Any, **fields: Any) -> dict[str, Any]:
    """Create a batch and wait until it is validated."""
    created = create(api, *lines, **fields)
    assert created.status_code == 200, created.text
    return wait(api, created.json()["id"], "in_progress")


def errors_of(batch: dict[str, Any]) -> list[tuple[str, str | None, int | None]]:
    """Code, parameter and line of what failed a batch."""
    assert batch["status"] == "failed", batch
    return [(each["code"], each["param"], each["line"]) for each in batch["errors"]["data"]]
