"""A process that dies while it tells of an event: another tells it again."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler

import httpx
from sqlalchemy import update
from standardwebhooks import Webhook as Verifier

from db.models import Webhook
from db.session import connect, session_factory, transaction
from tests.receiver import Received, receiving, status
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack


def test_a_message_comes_again_when_the_api_is_killed_while_it_is_on_its_way(stack: Stack) -> None:
    is_held, let_go = threading.Event(), threading.Event()

    def hold(_handler: BaseHTTPRequestHandler, _: Received) -> None:
        is_held.set()
        let_go.wait(60)

    with receiving() as receiver:
        receiver.answer = hold
        webhook = httpx.post(
            f"{stack.running.api_url}/v1/webhooks",
            headers={"Authorization": f"Bearer {stack.running.api_key}"},
            json={"url": receiver.url, "event_types": ["job.completed"]},
        ).json()
        with stack.client() as client:
            job = client.submit(problem_set(2), model=MODEL, deadline="60s")
            assert client.wait(job["id"])["state"] == "completed"
        assert is_held.wait(30)
        stack.kill("api")
        receiver.answer = status(200)
        let_go.set()
        _run_out_claim(stack, webhook["id"])
        first, again = receiver.wait(2)[:2]
    assert first.body == again.body
    event = Verifier(webhook["signing_secret"]).verify(again.body, again.headers)
    assert event["data"]["id"] == job["id"]
    assert event["data"]["num_answered"] == 2


def _run_out_claim(stack: Stack, webhook_id: str) -> None:
    """As if the time of the claim had passed."""
    engine = connect(stack.running.database_url, pool_size=1)
    with transaction(session_factory(engine)) as session:
        session.execute(
            update(Webhook).where(Webhook.id == webhook_id).values(claimed_until=datetime.now(UTC))
        )
    engine.dispose()
