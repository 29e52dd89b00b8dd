"""Slackline's own processes as supervisors and containers run them."""

import os
import signal
import socket
import subprocess
import time

import httpx
from typer.testing import CliRunner, Result

from db.keys import find_tenant, hash_secret
from db.session import SessionFactory
from infra.command import app
from infra.processes import bound
from infra.readiness import api_is_ready
from infra.servers import free_port
from tests.stack import slackline


def test_a_key_opens_the_api_until_it_is_revoked(
    database_url: str, sessions: SessionFactory
) -> None:
    def keys(*arguments: str) -> Result:
        environment = {"DATABASE_URL": database_url}
        return CliRunner().invoke(app, ("keys", *arguments), env=environment)

    created = keys("create", "--label", "me")
    secret, _, tenant_id, key_id = created.stdout.split()

    def holder() -> str | None:
        with sessions() as session:
            return find_tenant(session, key_sha256=hash_secret(secret))

    assert holder() == tenant_id
    assert keys("revoke", key_id).stdout == f"{key_id} revoked\n"
    assert holder() is None
    again = keys("revoke", key_id)
    assert again.exit_code == 1
    assert "No key in force" in str(again.exception) + again.output


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
        assert api.wait(timeout=5) == -signal.SIGTERM
        assert api.stderr is not None
        said = api.stderr.read()
    assert "Traceback" not in said
    assert "Finished server process" in said
