"""Wake-ups arrive after the commit; the lead belongs to one live connection."""

import time
from collections.abc import Callable

import psycopg
import pytest

from db.leader import is_led, try_lead
from db.session import SessionFactory, connect, driver_url, normalize_url
from db.wake import listen, notify


def _wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """A server process ends a moment after its client closed the connection."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.01)


def test_a_wake_up_arrives_with_the_commit(sessions: SessionFactory, database_url: str) -> None:
    with listen(database_url) as listener:
        with sessions.begin() as session:
            notify(session)
            assert not listener.wait(0.05)
        assert listener.wait(5.0)
        assert not listener.wait(0.0)


def test_wake_ups_of_one_transaction_are_one(sessions: SessionFactory, database_url: str) -> None:
    with listen(database_url) as listener:
        with sessions.begin() as session:
            for _ in range(20):
                notify(session)
        assert listener.wait(5.0)
        assert not listener.wait(0.05)


def test_wake_ups_that_pile_up_are_used_up(sessions: SessionFactory, database_url: str) -> None:
    with listen(database_url) as listener:
        for _ in range(20):
            with sessions.begin() as session:
                notify(session)
        waits = iter(lambda: listener.wait(0.5), False)
        assert 1 <= len(list(waits)) <= 20


def test_a_wait_without_a_wake_up_takes_its_timeout(database_url: str) -> None:
    with listen(database_url) as listener:
        began_s = time.monotonic()
        assert not listener.wait(0.1)
        assert 0.09 <= time.monotonic() - began_s < 5


def test_a_rolled_back_transaction_wakes_nobody(
    sessions: SessionFactory, database_url: str
) -> None:
    with listen(database_url) as listener:
        with sessions() as session:
            notify(session)
            session.rollback()
        assert not listener.wait(0.1)


def test_a_listener_whose_connection_was_killed_says_so(database_url: str) -> None:
    with listen(database_url) as listener:
        pid = listener.connection.info.backend_pid
        with psycopg.connect(driver_url(database_url)) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(psycopg.OperationalError):
            listener.wait(5.0)


def test_every_connection_notices_a_server_that_vanished(database_url: str) -> None:
    engine = connect(database_url)
    with engine.connect() as pooled, listen(database_url) as listener:
        driver = pooled.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        for connection in (driver, listener.connection):
            parameters = connection.info.get_parameters()
            waits = [int(parameters[f"keepalives_{name}"]) for name in ("interval", "count")]
            assert int(parameters["keepalives_idle"]) + waits[0] * waits[1] <= 15
            assert 0 < int(parameters["connect_timeout"]) <= 15
    engine.dispose()


def test_one_connection_leads_until_it_closes(sessions: SessionFactory, database_url: str) -> None:
    with psycopg.connect(driver_url(database_url), autocommit=True) as standby:
        with psycopg.connect(driver_url(database_url), autocommit=True) as leader:
            assert try_lead(leader)
            assert try_lead(leader)
            assert not try_lead(standby)
            with sessions.begin() as session:
                assert is_led(session)
        _wait_for(lambda: try_lead(standby))

    def is_given_up() -> bool:
        with sessions() as session:
            return not is_led(session)

    _wait_for(is_given_up)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_urls_name_the_driver_for_sqlalchemy_only(scheme: str) -> None:
    assert normalize_url(f"{scheme}://u@h/d") == "postgresql+psycopg://u@h/d"
    assert driver_url(f"{scheme}://u@h/d") == "postgresql://u@h/d"
