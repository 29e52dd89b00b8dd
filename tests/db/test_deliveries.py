"""Deliveries in the store: made with the event or not at all, claimed by one process at a time."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from db import deliveries, keys, webhooks
from db.deliveries import Notice, announce
from db.models import Webhook, WebhookDelivery
from db.session import SessionFactory
from scheduler.core.deliveries import WebhookKind
from tests.factories import NOW, after, stored_job

FAILED = WebhookKind.JOB_FAILED


def stored_webhook(sessions: SessionFactory, webhook_id: str = "wh_1", **values: Any) -> str:
    """A webhook of the local tenant that asks for failed jobs."""
    webhook = Webhook(
        **{
            "id": webhook_id,
            "tenant_id": keys.LOCAL_TENANT,
            "name": "",
            "url": "https://h.test/",
            "event_types": [FAILED],
            "secret": "whsec_MQ==",
            "created_at": NOW,
            **values,
        }
    )
    with sessions.begin() as session:
        keys.ensure_local_tenant(session, now=NOW)
        assert webhooks.insert_webhook(session, webhook, max_per_tenant=100)
    return webhook_id


def tell(sessions: SessionFactory, *kinds: WebhookKind, now: datetime = NOW) -> None:
    """Announce events of a new job."""
    with sessions.begin() as session:
        job_id = stored_job(session)
        announce(session, [Notice(job_id, kind) for kind in kinds or [FAILED]], now=now)


def number(sessions: SessionFactory) -> int:
    with sessions.begin() as session:
        return session.scalars(select(func.count()).select_from(WebhookDelivery)).one()


def claim(sessions: SessionFactory, now: datetime, lease_s: float = 30) -> list[webhooks.Claim]:
    with sessions.begin() as session:
        until = after(lease_s + (now - NOW).total_seconds())
        return list(webhooks.claim_webhooks(session, limit=10, until=until, now=now))


def test_an_event_that_is_rolled_back_is_not_told(sessions: SessionFactory) -> None:
    stored_webhook(sessions)
    with sessions() as session:
        announce(session, [Notice(stored_job(session), FAILED)], now=NOW)
        session.rollback()
    assert number(sessions) == 0


def test_only_enabled_webhooks_that_asked_for_the_kind_are_told(sessions: SessionFactory) -> None:
    stored_webhook(sessions, "wh_1")
    stored_webhook(sessions, "wh_2", event_types=[WebhookKind.JOB_EXPIRED])
    stored_webhook(sessions, "wh_3", enabled=False, disabled_reason="test")
    tell(sessions, FAILED, WebhookKind.JOB_COMPLETED)
    with sessions.begin() as session:
        assert list(session.scalars(select(WebhookDelivery.webhook_id))) == ["wh_1"]


def test_a_webhook_is_sent_to_under_one_claim_until_it_runs_out(sessions: SessionFactory) -> None:
    stored_webhook(sessions)
    assert claim(sessions, NOW) == []
    tell(sessions)
    (held,) = claim(sessions, NOW)
    assert claim(sessions, after(29)) == []
    (taken_over,) = claim(sessions, after(30))
    with sessions.begin() as session:
        assert deliveries.next_delivery(session, held, now=after(31)) is None
        assert deliveries.next_delivery(session, taken_over, now=after(31)) is not None
        # What an overtaken process gives back is not its own any more.
        webhooks.release_webhook(session, held, now=after(31))
    assert claim(sessions, after(31)) == []
    with sessions.begin() as session:
        webhooks.release_webhook(session, taken_over, now=after(31))
    assert len(claim(sessions, after(31))) == 1


def test_what_is_not_due_or_disabled_is_not_claimed(sessions: SessionFactory) -> None:
    stored_webhook(sessions)
    tell(sessions, now=after(10))
    assert claim(sessions, after(9)) == []
    (held,) = claim(sessions, after(10))
    with sessions.begin() as session:
        deliveries.disable_webhook(session, "wh_1", reason="test", now=after(11))
        assert deliveries.next_delivery(session, held, now=after(11)) is None
        (dead,) = deliveries.list_deliveries(session, "wh_1", limit=9)
        assert (dead.state, dead.last_error) == ("dead", "test")


def test_a_late_note_changes_nothing_that_was_settled(sessions: SessionFactory) -> None:
    stored_webhook(sessions)
    tell(sessions)
    (held,) = claim(sessions, NOW)
    with sessions.begin() as session:
        due = deliveries.next_delivery(session, held, now=NOW)
        assert due is not None
        for status, error, retry_at in ((200, None, None), (500, "HTTP 500", after(9))):
            deliveries.note_attempt(
                session, due[1], status=status, error=error, retry_at=retry_at, now=after(1)
            )
    with sessions.begin() as session:
        (settled,) = deliveries.list_deliveries(session, "wh_1", limit=9)
        assert (settled.state, settled.last_status, settled.num_attempts) == ("delivered", 200, 1)


def test_deliveries_that_ended_long_ago_are_forgotten(sessions: SessionFactory) -> None:
    stored_webhook(sessions)
    tell(sessions)
    tell(sessions)
    with sessions.begin() as session:
        (latest, _) = deliveries.list_deliveries(session, "wh_1", limit=9)
        deliveries.note_attempt(
            session, latest, status=200, error=None, retry_at=None, now=after(1)
        )
        deliveries.delete_old_deliveries(session, finished_before=NOW)
    assert number(sessions) == 2
    with sessions.begin() as session:
        deliveries.delete_old_deliveries(session, finished_before=after(1))
    assert number(sessions) == 1
