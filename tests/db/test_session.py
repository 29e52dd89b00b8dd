"""Connections outlive what happens to the processes at their ends."""

import time

import pytest
from sqlalchemy.exc import DBAPIError

from db import session as db_session
from db.batches import lose_batches
from db.leases import hold_batch
from db.session import SessionFactory, connect, session_factory
from tests.factories import after, claimed_batch, stored_job
from worker.outbox import is_outage


def test_a_process_frozen_in_a_transaction_keeps_its_rows_only_for_a_while(
    database_url: str, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.begin() as session:
        batch = claimed_batch(session, stored_job(session))
    monkeypatch.setattr(db_session, "IDLE_LIMIT_S", 0.5)
    frozen = connect(database_url, pool_size=1)
    with session_factory(frozen)() as held:
        assert hold_batch(held, batch_id=batch.id, epoch=batch.epoch)
        began_s = time.monotonic()

        with sessions.begin() as session:
            assert lose_batches(session, [batch.id], now=after(5)) == [batch.id]

        assert time.monotonic() - began_s < 3.0
        with pytest.raises(DBAPIError) as woken:
            hold_batch(held, batch_id=batch.id, epoch=batch.epoch)
        held.invalidate()
    assert is_outage(woken.value)
    with session_factory(frozen)() as session:
        assert not hold_batch(session, batch_id=batch.id, epoch=batch.epoch)
    frozen.dispose()
