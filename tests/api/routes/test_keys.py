"""Keys by API: made with scopes, rotated with a grace, revoked, and each scope opens its routes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from db import keys
from db.models import Scope
from db.session import SessionFactory, transaction
from tests.api.live import client_of, error_of, job_body

Serve = Callable[..., httpx.Client]


def made(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A new key with its secret."""
    response = api.post("/v1/keys", json={"label": "ci"} | fields)
    assert response.status_code == 201, response.text
    key: dict[str, Any] = response.json()
    return key


def status(url: str, secret: str, method: str = "GET", path: str = "/v1/jobs") -> int:
    with client_of(url, secret) as client:
        return client.request(method, path).status_code


def test_a_key_is_made_with_its_secret_shown_once(api_alone: httpx.Client, url: str) -> None:
    key = made(api_alone)
    assert key["secret"].startswith("sk-slk-")
    assert key["scopes"] == ["submit", "read"]
    assert status(url, key["secret"]) == 200
    (listed,) = api_alone.get("/v1/keys").json()["data"]
    assert listed == api_alone.get(f"/v1/keys/{key['id']}").json()
    assert listed.pop("last_used_at") is not None
    assert listed == {name: key[name] for name in listed}
    assert "secret" not in listed


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_opens_its_routes_and_no_others(
    api_alone: httpx.Client, url: str, scope: Scope
) -> None:
    secret = made(api_alone, scopes=[scope.value])["secret"]
    requests = {
        Scope.READ: ("GET", "/v1/jobs", None),
        Scope.SUBMIT: ("POST", "/v1/jobs", job_body()),
        Scope.ADMIN: ("GET", "/v1/keys", None),
    }
    with client_of(url, secret) as client:
        for needed, (method, path, body) in requests.items():
            response = client.request(method, path, json=body)
            if needed is scope:
                assert response.is_success, response.text
                continue
            error = error_of(response)
            assert (response.status_code, error["code"]) == (403, "insufficient_scope")
            assert (error["type"], error["scope"]) == ("permission_error", needed)
            assert f"needs the scope '{needed.value}' and has {scope.value}" in error["message"]
            assert f'scope="{needed.value}"' in response.headers["www-authenticate"]


def test_a_body_is_not_read_without_the_scope(api_alone: httpx.Client, url: str) -> None:
    secret = made(api_alone, scopes=["read"])["secret"]
    with client_of(url, secret) as client:
        for path in ("/v1/jobs", "/v1/quotes", "/v1/batches", "/v1/keys", "/v1/files"):
            # Too large, or of no known type: neither is noticed.
            assert client.post(path, content=b" " * 1000).status_code == 403


def test_a_rotated_key_has_two_secrets_for_the_grace(api_alone: httpx.Client, url: str) -> None:
    key = made(api_alone)
    rotated = api_alone.post(f"/v1/keys/{key['id']}/rotate").json()
    assert rotated["id"] == key["id"]
    left = datetime.fromisoformat(rotated["previous_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert [status(url, each["secret"]) for each in (key, rotated)] == [200, 200]
    last = api_alone.post(f"/v1/keys/{key['id']}/rotate", json={"grace_s": 0}).json()
    secrets = [each["secret"] for each in (key, rotated, last)]
    assert [status(url, each) for each in secrets] == [401, 401, 200]


def test_a_revoked_key_is_refused_and_revoking_twice_is_no_error(
    api_alone: httpx.Client, url: str
) -> None:
    key = made(api_alone)
    revoked = api_alone.delete(f"/v1/keys/{key['id']}").json()
    assert revoked["revoked_at"] is not None
    assert status(url, key["secret"]) == 401
    assert api_alone.delete(f"/v1/keys/{key['id']}").json() == revoked
    assert api_alone.get("/v1/keys").json()["data"] == []
    response = api_alone.post(f"/v1/keys/{key['id']}/rotate")
    assert (response.status_code, error_of(response)["code"]) == (409, "key_not_in_force")


def test_a_key_expires(api_alone: httpx.Client, url: str, sessions: SessionFactory) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    secret = made(api_alone, expires_at=later.isoformat())["secret"]
    assert status(url, secret) == 200
    ended = keys.new_secret()
    with transaction(sessions) as session:
        keys.insert_api_key(
            session,
            tenant_id=keys.LOCAL_TENANT,
            key_sha256=keys.hash_secret(ended),
            label="old",
            now=later,
            expires_at=later - timedelta(hours=2),
        )
    assert status(url, ended) == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "label"),
        ({"label": ""}, "label"),
        ({"label": "a\0"}, "label"),
        ({"label": "x" * 257}, "label"),
        ({"label": "x", "scopes": []}, "scopes"),
        ({"label": "x", "scopes": ["write"]}, "scopes[0]"),
        ({"label": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"label": "x", "expires_at": "2020-01-01T00:00:00"}, "expires_at"),
        ({"label": "x", "weight": 2}, "weight"),
        ([], None),
    ],
)
def test_what_is_no_key_is_refused(api_alone: httpx.Client, body: Any, param: str | None) -> None:
    response = api_alone.post("/v1/keys", json=body)
    assert (response.status_code, error_of(response)["param"]) == (400, param)


@pytest.mark.parametrize("grace_s", [-1, 30 * 86_400 + 1, "day"])
def test_what_is_no_grace_is_refused(api_alone: httpx.Client, grace_s: Any) -> None:
    key = made(api_alone)
    response = api_alone.post(f"/v1/keys/{key['id']}/rotate", json={"grace_s": grace_s})
    assert (response.status_code, error_of(response)["param"]) == (400, "grace_s")


def test_a_tenant_has_so_many_keys_and_no_more(serve: Serve) -> None:
    api = serve(max_keys=2)
    first = made(api)
    made(api)
    response = api.post("/v1/keys", json={"label": "third"})
    assert (response.status_code, error_of(response)["code"]) == (409, "too_many_keys")
    api.delete(f"/v1/keys/{first['id']}")
    made(api)
