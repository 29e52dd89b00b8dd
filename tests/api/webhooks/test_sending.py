"""One attempt against a real server: where it connects, what it sends, what it puts up with."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from api.webhooks.creation import new_secret
from api.webhooks.sending import Attempt, Sender
from api.webhooks.settings import WebhookSettings
from db.models import Webhook, WebhookDelivery
from tests.receiver import Received, Receiver, receiving, status

SECRET, OLD_SECRET = new_secret(), new_secret()
HOST = "hooks.example.test"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def tls_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that proves to be `HOST`, to those who trust its authority as this test does."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(tls)
    with receiving(tls) as running:
        yield running


def send(url: str, *addresses: str, old_until: datetime | None = None, **settings: Any) -> Attempt:
    """Try once; names lead to `addresses`, the loopback by default, at the first look-up only."""
    answers = [list(addresses) or ["127.0.0.1"]]
    sender = Sender(WebhookSettings(**settings), resolve=lambda *_: answers.pop())
    now = datetime.now(UTC)
    webhook = Webhook(id="wh_1", url=url, secret=SECRET)
    if old_until is not None:
        webhook.previous_secret, webhook.previous_secret_until = OLD_SECRET, old_until
    delivery = WebhookDelivery(
        webhook_id="wh_1",
        event_id="evt_1",
        event_type="batch.completed",
        data={"id": "batch_1"},
        created_at=now,
    )
    try:
        return asyncio.run(sender.send(webhook, delivery, now))
    finally:
        sender.close()


def send_inside(url: str, *addresses: str, **options: Any) -> Attempt:
    """Try once where private addresses are allowed."""
    return send(url, *addresses, allow_private=True, **options)


def test_a_message_is_signed_and_has_openais_form(receiver: Receiver) -> None:
    assert send_inside(receiver.url) == Attempt(204, None)
    (received,) = receiver.received
    verified = Verifier(SECRET).verify(received.body, received.headers)
    assert verified == received.event
    assert received.event["data"] == {"id": "batch_1"}
    assert (received.event["type"], received.event["object"]) == ("batch.completed", "event")
    assert received.event["id"] == received.headers["webhook-id"] == "evt_1"
    assert received.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Verifier(OLD_SECRET).verify(received.body, received.headers)


def test_both_secrets_sign_until_the_old_one_ends(receiver: Receiver) -> None:
    soon, past = (datetime.now(UTC) + timedelta(seconds=s) for s in (60, -1))
    send_inside(receiver.url, old_until=soon)
    send_inside(receiver.url, old_until=past)
    both, new = receiver.received
    for secret in (SECRET, OLD_SECRET):
        Verifier(secret).verify(both.body, both.headers)
    assert len(new.headers["webhook-signature"].split()) == 1


def test_the_connection_goes_to_the_address_that_was_checked_under_the_hosts_name(
    tls_receiver: Receiver,
) -> None:
    url = f"https://{HOST}:{tls_receiver.port}/in?a=b"
    assert send_inside(url) == Attempt(204, None)
    (received,) = tls_receiver.received
    assert received.headers["host"] == f"{HOST}:{tls_receiver.port}"
    assert received.path == "/in?a=b"


def test_a_certificate_of_another_name_is_refused(tls_receiver: Receiver) -> None:
    attempt = send_inside(f"https://other.example.test:{tls_receiver.port}/")
    assert attempt.error is not None
    assert "certificate" in attempt.error.lower()
    assert tls_receiver.received == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"])
def test_nothing_is_sent_to_a_name_with_a_private_address(receiver: Receiver, address: str) -> None:
    attempt = send(f"http://{HOST}:{receiver.port}/", address)
    assert attempt.status is None
    assert attempt.error is not None
    assert attempt.error.startswith("not sent: ")
    assert receiver.received == []


def test_the_next_address_of_a_name_is_tried_when_one_is_out_of_reach(receiver: Receiver) -> None:
    assert send_inside(f"http://{HOST}:{receiver.port}/", "127.0.0.2", "127.0.0.1").status == 204


def test_a_name_that_does_not_resolve_is_a_failed_attempt() -> None:
    sender = Sender(WebhookSettings())
    webhook = Webhook(id="wh_1", url=f"https://{'a' * 64}.test/", secret=SECRET)
    delivery = WebhookDelivery(
        webhook_id="wh_1",
        event_id="evt_1",
        event_type="job.failed",
        data={},
        created_at=datetime.now(UTC),
    )
    attempt = asyncio.run(sender.send(webhook, delivery, datetime.now(UTC)))
    sender.close()
    assert attempt.status is None
    assert attempt.error


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    with receiving() as other:
        receiver.answer = status(307, Location=other.url)
        attempt = send_inside(receiver.url)
        assert (attempt.status, other.received) == (307, [])
    assert attempt.error == "HTTP 307: redirects are not followed"


def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send_inside(receiver.url).status == 204
        assert proxy.received == []


def test_an_endless_response_is_cut(receiver: Receiver) -> None:
    sent = []

    def flood(handler: BaseHTTPRequestHandler, _: Received) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)
            sent.append(65536)

    receiver.answer = flood
    assert send_inside(receiver.url) == Attempt(200, None)
    assert sum(sent) < 100_000_000


def drip_head(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def never(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(1)


@pytest.mark.parametrize("slowly", [drip_head, drip_body, never])
def test_a_receiver_that_takes_for_ever_is_given_up(
    receiver: Receiver, slowly: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    receiver.answer = lambda handler, _: slowly(handler)
    assert send_inside(receiver.url, timeout_s=0.3) == Attempt(None, "no response within 0.3 s")
