"""From an event to a receiver: a live API on a real Postgres, and a real server that takes it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from standardwebhooks import Webhook as Verifier

from db.endings import finish_cancelled
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.models import Webhook
from db.session import SessionFactory, transaction
from tests.api.live import served
from tests.api.openai.batch_files import chat_line
from tests.api.openai.batch_files import create as create_batch
from tests.api.routes.test_operations import metrics_of
from tests.api.routes.test_streams import wait_until
from tests.factories import stored_job
from tests.receiver import Received, Receiver, receiving, status

SETTINGS = {"allow_private": True, "retry_delays_s": (0.05, 0.05), "timeout_s": 5}


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    """URL of the API that sends to the loopback and tries three times in a hurry."""
    with served(database_url=database_url, webhooks=SETTINGS) as address:
        yield address


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def subscribe(api: httpx.Client, url: str, *kinds: str) -> dict[str, Any]:
    """A new webhook."""
    created = api.post("/v1/webhooks", json={"url": url, "event_types": kinds or ["job.cancelled"]})
    assert created.status_code == 201, created.text
    webhook: dict[str, Any] = created.json()
    return webhook


def cancel_jobs(sessions: SessionFactory, number: int = 1) -> list[str]:
    """Store jobs and cancel them as the scheduler does; returns their ids."""
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        ids = [stored_job(session, num_problems=1) for _ in range(number)]
        for job_id in ids:
            request_cancel(session, LOCAL_TENANT, job_id, now=now)
            finish_cancelled(session, job_id, now=now)
    return ids


def deliveries(api: httpx.Client, webhook: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    response = api.get(f"/v1/webhooks/{webhook['id']}/deliveries", params=params)
    found: list[dict[str, Any]] = response.json()["data"]
    return found


def settled(api: httpx.Client, webhook: dict[str, Any], number: int = 1) -> list[dict[str, Any]]:
    """The deliveries, once so many of them are not pending."""
    give_up_at = time.monotonic() + 30
    while True:
        found = deliveries(api, webhook)
        if sum(each["state"] != "pending" for each in found) >= number:
            return found
        assert time.monotonic() < give_up_at, found
        time.sleep(0.02)


def test_the_end_of_a_job_is_told_signed_to_those_who_asked(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver, stranger: httpx.Client
) -> None:
    webhook = subscribe(api_alone, receiver.url, "job.cancelled", "job.completed")
    others = subscribe(api_alone, receiver.url, "job.completed")
    foreign = subscribe(stranger, receiver.url, "job.cancelled")
    (job_id,) = cancel_jobs(sessions)
    (delivery,) = settled(api_alone, webhook)
    (received,) = receiver.received
    event = Verifier(webhook["signing_secret"]).verify(received.body, received.headers)
    assert event["type"] == "job.cancelled"
    assert event["data"] == {"id": job_id, "num_cancelled": 1}
    assert (delivery["state"], delivery["last_status"]) == ("delivered", 204)
    assert (delivery["event_id"], delivery["subject_id"]) == (event["id"], job_id)
    assert deliveries(api_alone, others) == deliveries(stranger, foreign) == []


def test_a_batch_that_fails_is_told_in_openais_words(
    api_alone: httpx.Client, receiver: Receiver
) -> None:
    subscribe(api_alone, receiver.url, "batch.failed")
    batch = create_batch(api_alone, input_file_id="file-unknown").json()
    (received,) = receiver.wait(1)
    event = received.event
    assert (event["type"], event["data"]) == ("batch.failed", {"id": batch["id"]})
    assert set(event) == {"id", "object", "created_at", "type", "data"}


def test_a_batch_that_is_cancelled_before_it_runs_is_told(
    api_alone: httpx.Client, receiver: Receiver
) -> None:
    subscribe(api_alone, receiver.url, "batch.cancelled")
    # Without a worker it waits for one.
    batch = create_batch(api_alone, chat_line(), slackline={"best_effort": True}).json()
    api_alone.post(f"/v1/batches/{batch['id']}/cancel")
    (received,) = receiver.wait(1)
    assert received.event["data"] == {"id": batch["id"]}


def test_a_failed_attempt_is_repeated_with_the_same_message(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    receiver.answer = status(500, 302, 200)
    before = metrics_of(api_alone)
    webhook = subscribe(api_alone, receiver.url)
    cancel_jobs(sessions)
    (delivery,) = settled(api_alone, webhook)
    assert (delivery["state"], delivery["num_attempts"]) == ("delivered", 3)
    assert delivery["last_error"] is None
    assert len({(each.headers["webhook-id"], each.body) for each in receiver.received}) == 1
    assert api_alone.get(f"/v1/webhooks/{webhook['id']}").json()["failing_since"] is None

    def counted(name: str, *labels: tuple[str, str]) -> float:
        return metrics_of(api_alone)[(name, labels)] - before[(name, labels)]

    # An attempt is counted once what came of it is stored.
    wait_until(lambda: counted("slackline_webhook_attempts_total", ("outcome", "delivered")) == 1)
    assert counted("slackline_webhook_attempts_total", ("outcome", "retried")) == 2
    assert counted("slackline_webhook_attempt_duration_seconds_count") == 3
    assert counted("slackline_webhook_delivery_delay_seconds_count") == 1
    assert metrics_of(api_alone)[("slackline_pending_webhook_deliveries", ())] == 0


def test_what_never_arrives_is_listed_as_dead_and_can_be_sent_again(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    receiver.answer = status(503)
    webhook = subscribe(api_alone, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    cancel_jobs(sessions, 2)
    settled(api_alone, webhook, 2)
    dead = deliveries(api_alone, webhook, state="dead")
    assert [(each["last_status"], each["last_error"]) for each in dead] == [(503, "HTTP 503")] * 2
    # Nothing arrived for as long as all retries take, so nothing more is sent.
    disabled = api_alone.get(path).json()
    assert disabled["enabled"] is False
    assert "has taken nothing since" in disabled["disabled_reason"]

    receiver.answer = status(200)
    receiver.received.clear()
    assert api_alone.post(f"{path}/redeliver").json()["num_deliveries"] == 2
    assert {each["state"] for each in deliveries(api_alone, webhook)} == {"pending"}
    api_alone.patch(path, json={"enabled": True})
    assert {each["state"] for each in settled(api_alone, webhook, 2)} == {"delivered"}
    again = {each.headers["webhook-id"] for each in receiver.received}
    assert again == {each["event_id"] for each in dead}

    one = api_alone.post(f"{path}/deliveries/{dead[0]['event_id']}/redeliver")
    assert (one.status_code, one.json()["state"]) == (200, "pending")
    assert receiver.wait(3)[-1].headers["webhook-id"] == dead[0]["event_id"]
    unknown = api_alone.post(f"{path}/deliveries/evt_{'0' * 32}/redeliver")
    assert unknown.status_code == 404


def test_gone_disables_a_webhook_and_ends_what_was_on_its_way(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    receiver.answer = status(410)
    webhook = subscribe(api_alone, receiver.url)
    cancel_jobs(sessions, 3)
    assert {each["state"] for each in settled(api_alone, webhook, 3)} == {"dead"}
    assert len(receiver.received) == 1
    read = api_alone.get(f"/v1/webhooks/{webhook['id']}").json()
    assert (read["enabled"], read["disabled_reason"]) == (False, "it answered 410 Gone")
    cancel_jobs(sessions)
    assert len(deliveries(api_alone, webhook)) == 3


def test_a_receiver_that_hangs_holds_up_nobody_else(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    def hang(handler: Any, _: Received) -> None:
        handler.rfile.read(1)

    with receiving() as hanging:
        hanging.answer = hang
        subscribe(api_alone, hanging.url)
        hanging_too = subscribe(api_alone, hanging.url)
        webhook = subscribe(api_alone, receiver.url)
        cancel_jobs(sessions, 20)
        delivered = settled(api_alone, webhook, 20)
        assert {each["state"] for each in delivered} == {"delivered"}
        assert {each["num_attempts"] for each in deliveries(api_alone, hanging_too)} == {0}


def test_two_processes_send_each_event_once(
    api_alone: httpx.Client, sessions: SessionFactory, database_url: str, receiver: Receiver
) -> None:
    with served(database_url=database_url, webhooks=SETTINGS):
        webhooks = [subscribe(api_alone, receiver.url) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: cancel_jobs(sessions, 5), range(4)))
        for webhook in webhooks:
            settled(api_alone, webhook, 20)
    assert len(receiver.received) == 80
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 20


def test_what_a_dead_process_had_claimed_is_sent_when_its_claim_runs_out(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    webhook = subscribe(api_alone, receiver.url)
    claim = update(Webhook).where(Webhook.id == webhook["id"])
    with transaction(sessions) as session:
        session.execute(claim.values(claimed_until=datetime.now(UTC) + timedelta(hours=1)))
    cancel_jobs(sessions)
    other = subscribe(api_alone, receiver.url)
    cancel_jobs(sessions)
    settled(api_alone, other)
    assert [each["num_attempts"] for each in deliveries(api_alone, webhook)] == [0, 0]
    with transaction(sessions) as session:
        session.execute(claim.values(claimed_until=datetime.now(UTC)))
    settled(api_alone, webhook, 2)


def test_deliveries_are_listed_page_by_page(
    api_alone: httpx.Client, sessions: SessionFactory, receiver: Receiver
) -> None:
    webhook = subscribe(api_alone, receiver.url)
    cancel_jobs(sessions, 5)
    whole = deliveries(api_alone, webhook)
    path = f"/v1/webhooks/{webhook['id']}/deliveries"
    first = api_alone.get(path, params={"limit": 3}).json()
    assert (len(first["data"]), first["has_more"]) == (3, True)
    rest = api_alone.get(path, params={"limit": 3, "after": first["next_after"]}).json()
    assert (rest["has_more"], rest["next_after"]) == (False, None)
    ids = [each["event_id"] for each in (*first["data"], *rest["data"])]
    assert ids == [each["event_id"] for each in whole]
    assert api_alone.get(path, params={"after": "evt_x"}).status_code == 400
