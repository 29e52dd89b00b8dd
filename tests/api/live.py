"""Serves the real application from a thread, and the requests and checks that tests share."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from api.app import create_app
from api.settings import ApiSettings
from tests.factories import MODEL

LOCAL_KEY = "sk-slk-local"


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """URL of the application, with the local key unless the settings say else."""
    app = create_app(ApiSettings(**({"local_key": LOCAL_KEY} | settings)))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def client_of(url: str, key: str = LOCAL_KEY) -> httpx.Client:
    """A client with the key."""
    headers = {"Authorization": f"Bearer {key}"}
    # There is no TLS here, and to read the authorities takes longer than most tests.
    return httpx.Client(base_url=url, headers=headers, timeout=30, verify=False)


def job_body(num_problems: int = 3, **overrides: Any) -> dict[str, Any]:
    """A JSON submission that is due in an hour."""
    problems = [
        {"id": f"p{number}", "prompt": f"1+{number}=", "reference_answer": str(1 + number)}
        for number in range(num_problems)
    ]
    return {"model": MODEL, "deadline": "1h", "problems": problems} | overrides


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, after a check that it has the envelope."""
    document = response.json()
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["code"], str)
    return error
