"""Keys and tenants as the operator makes, changes and ends them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from db.keys import find_key, hash_secret
from db.models import ApiKey, Tenant
from db.session import SessionFactory, transaction
from infra.command import app
from tests.factories import stored_job

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str) -> Run:
    """Runs `slackline` on the test's database."""
    environment = {"DATABASE_URL": database_url, "COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


def opened(sessions: SessionFactory, secret: str, in_h: float = 0.0) -> ApiKey | None:
    at = datetime.now(UTC) + timedelta(hours=in_h)
    with transaction(sessions) as session:
        return find_key(session, key_sha256=hash_secret(secret), now=at)


def refusal(result: Result) -> str:
    assert result.exit_code == 1
    return str(result.exception) + result.output


def test_a_key_opens_the_api_until_it_is_revoked(run: Run, sessions: SessionFactory) -> None:
    secret, _, tenant_id, key_id = run("keys", "create", "--label", "me").stdout.split()
    key = opened(sessions, secret)
    assert key is not None
    assert (key.tenant_id, key.scopes) == (tenant_id, ["submit", "read"])
    assert run("keys", "revoke", key_id).stdout == f"{key_id} revoked\n"
    assert opened(sessions, secret) is None
    assert "No key in force" in refusal(run("keys", "revoke", key_id))
    assert "No key in force" in refusal(run("keys", "rotate", key_id))


def test_a_key_has_the_scopes_and_the_life_that_were_asked_for(
    run: Run, sessions: SessionFactory
) -> None:
    made = run("keys", "create", "--label", "me", "--scopes", "read,admin", "--days", "1")
    secret, _, tenant_id, key_id = made.stdout.split()
    assert opened(sessions, secret, in_h=23) is not None
    assert opened(sessions, secret, in_h=25) is None
    run("keys", "create", "--label", "another tenant's")
    listed = run("keys", "list", "--tenant", tenant_id, "--json").stdout
    (key,) = json.loads(listed)
    assert (key["id"], key["scopes"], key["label"]) == (key_id, ["read", "admin"], "me")
    assert secret not in listed
    assert len(json.loads(run("keys", "list", "--json").stdout)) == 2
    assert key_id in run("keys", "list").stdout
    assert "submit, read, admin" in refusal(
        run("keys", "create", "--label", "me", "--scopes", "write")
    )


def test_a_rotated_key_has_two_secrets_until_the_grace_is_over(
    run: Run, sessions: SessionFactory
) -> None:
    old, _, tenant_id, key_id = run("keys", "create", "--label", "me").stdout.split()
    new, _, *same = run("keys", "rotate", key_id, "--grace-h", "2").stdout.split()
    assert same == [tenant_id, key_id]
    assert [opened(sessions, each, in_h=1) is not None for each in (old, new)] == [True, True]
    assert [opened(sessions, each, in_h=3) is not None for each in (old, new)] == [False, True]


def test_tenants_are_made_set_and_listed(run: Run, sessions: SessionFactory) -> None:
    tenant_id = run("tenants", "create", "school", "--weight", "2").stdout.strip()
    run("keys", "create", "--label", "me", "--tenant", tenant_id)
    with transaction(sessions) as session:
        stored_job(session, tenant_id=tenant_id, num_problems=4, tokens_per_problem=25.0)
    assert run("tenants", "set", tenant_id, "--max-queued-tokens", "1000").exit_code == 0
    listed = json.loads(run("tenants", "list", "--json").stdout)
    (school,) = (each for each in listed if each["id"] == tenant_id)
    assert school == {
        "id": tenant_id,
        "name": "school",
        "weight": 2.0,
        "max_queued_tokens": 1000,
        "queued_tokens": 100,
        "live_jobs": 1,
        "keys": 1,
    }
    assert "school" in run("tenants", "list").stdout
    run("tenants", "set", tenant_id, "--default-quota", "--weight", "0.5")
    with transaction(sessions) as session:
        tenant = session.get_one(Tenant, tenant_id)
        assert (tenant.max_queued_tokens, tenant.weight) == (None, 0.5)


def test_what_cannot_be_set_is_told(run: Run) -> None:
    tenant_id = run("tenants", "create", "school").stdout.strip()
    assert "weight is above 0" in refusal(run("tenants", "set", tenant_id, "--weight", "0"))
    assert "Nothing to set" in refusal(run("tenants", "set", tenant_id))
    assert "No tenant has the id 'ten_x'" in refusal(
        run("tenants", "set", "ten_x", "--weight", "1")
    )
