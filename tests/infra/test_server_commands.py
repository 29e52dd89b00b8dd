"""Slackline's own processes as supervisors and containers run them."""

import json
import os
import signal
import socket
import subprocess
import time

import httpx
import pytest
from typer.testing import CliRunner

from infra.command import app
from infra.processes import bound
from infra.readiness import api_is_ready
from infra.servers import free_port
from tests.stack import slackline


def test_an_upload_that_stalls_does_not_hold_up_a_stop_of_the_api(database_url: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = slackline("api", "--port", str(port), "--database-url", database_url)
    api = subprocess.Popen(
        bound(argv, signal.SIGKILL),
        env={**os.environ, "SLACKLINE_LOCAL_KEY": "sk-slk-local"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with api, socket.socket() as upload:
        while not api_is_ready(url):
            assert api.poll() is None
            time.sleep(0.05)
        upload.connect(("127.0.0.1", port))
        head = (
            "POST /v1/jobs?model=m&deadline=30s HTTP/1.1",
            "Host: slackline",
            "Authorization: Bearer sk-slk-local",
            "Content-Type: application/x-ndjson",
            "Content-Length: 1000",
        )
        upload.sendall("\r\n".join((*head, "", '{"prompt": "1 + 1"}')).encode())
        # Answered on another connection: the upload has been taken in hand before it.
        assert httpx.get(f"{url}/healthz").is_success
        api.send_signal(signal.SIGTERM)
        # The server closes the connection behind its answer, which may come in several parts.
        answer = b"".join(iter(lambda: upload.recv(65536), b"")).decode()
        assert answer.startswith("HTTP/1.1 503")
        assert "server_stopping" in answer
        assert api.wait(timeout=5) == 0
        assert api.stderr is not None
        said = api.stderr.read()
    assert "Traceback" not in said
    assert "Finished server process" in said


@pytest.mark.parametrize(
    ("variable", "value", "command"),
    [
        ("SLACKLINE_MAX_KEYS", "many", ("api",)),
        ("SLACKLINE_WEBHOOKS__RETRY_DELAYS_S", '["soon"]', ("api",)),
        ("SLACKLINE_WEBHOOKS", "5,300", ("api",)),
        ("SLACKLINE_RETENTION__BRANCHES_DAYS", "0", ("scheduler",)),
        ("SLACKLINE_LEASE_S", "1", ("worker", "--name", "w")),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/")
    monkeypatch.setenv("REDIS_URL", "redis://nowhere/")
    monkeypatch.setenv(variable, value)
    ran = CliRunner().invoke(app, [*command, "--json"])
    assert ran.exit_code == 1
    error = json.loads(ran.stderr)["error"]
    assert (error["code"], error["param"]) == ("invalid_setting", variable)
