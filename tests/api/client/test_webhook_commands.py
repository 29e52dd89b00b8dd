"""`slackline webhooks` against the live API and a real receiver."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.client.commands import app
from db.endings import finish_cancelled
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.session import SessionFactory, transaction
from tests.api.live import LOCAL_KEY, served
from tests.factories import stored_job
from tests.receiver import receiving, status

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def url(database_url: str) -> Iterator[str]:
    """URL of an API that sends to the loopback, and tries once."""
    settings = {"allow_private": True, "retry_delays_s": ()}
    with served(database_url=database_url, webhooks=settings) as address:
        yield address


@pytest.fixture
def run(url: str, sessions: SessionFactory) -> Run:  # noqa: ARG001
    def run(*arguments: str) -> Result:
        env = {"SLACKLINE_URL": url, "SLACKLINE_API_KEY": LOCAL_KEY}
        return CliRunner().invoke(app, ["webhooks", *arguments], env=env)

    return run


def printed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_webhook_is_made_shown_changed_and_deleted(run: Run) -> None:
    address = "http://127.0.0.1:9/hook"
    created = run("create", address, "--event", "job.completed", "--event", "batch.failed")
    secret, _, webhook, shown = created.stdout.split()
    assert (secret[:6], shown) == ("whsec_", address)
    (listed,) = printed(run("list", "--json"))
    assert (listed["id"], listed["event_types"]) == (webhook, ["job.completed", "batch.failed"])
    assert "enabled" in run("list").stdout
    assert run("rotate", webhook).stdout.split()[0] != secret
    assert "disabled" in run("update", webhook, "--disable", "--event", "job.failed").stdout
    assert run("delete", webhook).stdout == f"{webhook} deleted\n"
    gone = run("update", webhook, "--enable")
    assert (gone.exit_code, gone.stderr) == (1, f"Error: No webhook found with id '{webhook}'.\n")


def test_what_never_arrived_is_listed_and_sent_again(run: Run, sessions: SessionFactory) -> None:
    with receiving() as receiver:
        receiver.answer = status(503, 200)
        webhook = printed(run("create", receiver.url, "--event", "job.cancelled", "--json"))["id"]
        now = datetime.now(UTC)
        with transaction(sessions) as session:
            job_id = stored_job(session)
            request_cancel(session, LOCAL_TENANT, job_id, now=now)
            finish_cancelled(session, job_id, now=now)
        receiver.wait(1)
        dead: list[dict[str, Any]] = []
        while not dead:
            dead = printed(run("deliveries", webhook, "--state", "dead", "--json"))
        (delivery,) = dead
        assert (delivery["subject_id"], delivery["last_error"]) == (job_id, "HTTP 503")
        assert "HTTP 503" in run("deliveries", webhook).stdout
        # With one attempt the first failure is the whole schedule.
        assert printed(run("update", webhook, "--enable", "--json"))[0]["enabled"] is True
        assert printed(run("redeliver", webhook, "--json")) == {"num_deliveries": 1}
        receiver.wait(2)
        assert run("redeliver", webhook, delivery["event_id"]).exit_code == 0
        receiver.wait(3)
