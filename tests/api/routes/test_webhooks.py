"""Webhooks as resources: what may be created, seen and changed, and by whom."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.live import error_of

URL = "https://hooks.example.test/in"


def create(api: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"url": URL, "event_types": ["job.completed", "batch.failed"]} | fields
    return api.post("/v1/webhooks", json=body)


def test_a_webhook_is_created_read_listed_and_deleted(api_alone: httpx.Client) -> None:
    created = create(api_alone, name="grades")
    assert created.status_code == 201
    webhook = created.json()
    assert webhook.pop("signing_secret").startswith(webhook["signing_secret_hint"][:10])
    assert (webhook["url"], webhook["name"], webhook["enabled"]) == (URL, "grades", True)
    other = create(api_alone).json()
    path = f"/v1/webhooks/{webhook['id']}"
    assert api_alone.get(path).json() == webhook
    listed = api_alone.get("/v1/webhooks").json()["data"]
    assert [each["id"] for each in listed] == [other["id"], webhook["id"]]
    assert "signing_secret" not in listed[0]
    assert api_alone.delete(path).json()["deleted"] is True
    assert api_alone.get(path).status_code == 404


def test_what_is_sent_is_changed_and_the_rest_stays(api_alone: httpx.Client) -> None:
    created = create(api_alone, name="grades").json()
    path = f"/v1/webhooks/{created['id']}"
    changed = api_alone.patch(path, json={"event_types": ["job.expired", "job.expired"]}).json()
    assert (changed["event_types"], changed["name"]) == (["job.expired"], "grades")
    off = api_alone.patch(path, json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "you disabled it")
    on = api_alone.patch(path, json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_reason"]) == (True, None)
    empty = api_alone.patch(path, json={})
    assert (empty.status_code, "Nothing to change" in error_of(empty)["message"]) == (400, True)


def test_a_secret_is_rotated_with_a_grace_or_at_once(api_alone: httpx.Client) -> None:
    created = create(api_alone).json()
    path = f"/v1/webhooks/{created['id']}/rotate_secret"
    rotated = api_alone.post(path).json()
    assert rotated["signing_secret"] != created["signing_secret"]
    assert rotated["old_secret_until"] is not None
    at_once = api_alone.post(path, json={"keep_old_secret_s": 0}).json()
    assert at_once["old_secret_until"] is None


def test_a_stranger_sees_and_touches_nothing(
    api_alone: httpx.Client, stranger: httpx.Client
) -> None:
    path = f"/v1/webhooks/{create(api_alone).json()['id']}"
    event = "evt_" + "0" * 32
    for response in (
        stranger.get(path),
        stranger.patch(path, json={"enabled": False}),
        stranger.delete(path),
        stranger.post(f"{path}/rotate_secret"),
        stranger.get(f"{path}/deliveries"),
        stranger.post(f"{path}/deliveries/{event}/redeliver"),
        stranger.post(f"{path}/redeliver"),
    ):
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert stranger.get("/v1/webhooks").json()["data"] == []
    assert api_alone.get(path).json()["enabled"] is True


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"url": "http://hooks.example.test/"}, "url", "invalid_value", "https://"),
        ({"url": "ftp://hooks.example.test/"}, "url", "invalid_value", "https://"),
        ({"url": "hooks.example.test"}, "url", "invalid_value", "https://"),
        ({"url": "https://"}, "url", "invalid_value", "https://"),
        ({"url": "https://[::1"}, "url", "invalid_value", "Cannot read"),
        ({"url": "https://me:pw@hooks.example.test/"}, "url", "invalid_value", "Leave out"),
        ({"url": "https://127.0.0.1/"}, "url", "forbidden_address", "ALLOW_PRIVATE"),
        ({"url": "https://0x7f.1/"}, "url", "forbidden_address", "ALLOW_PRIVATE"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "forbidden_address", "private"),
        ({"url": "https://169.254.169.254/"}, "url", "forbidden_address", "metadata"),
        ({"url": f"https://h.test/{'x' * 2048}"}, "url", "invalid_value", "2048"),
        ({"url": 7}, "url", "invalid_value", "string"),
        ({"event_types": []}, "event_types", "invalid_value", "at least 1"),
        ({"event_types": ["job.done"]}, "event_types[0]", "invalid_value", "job.completed"),
        ({"name": "a\0"}, "name", "invalid_value", "NUL"),
        ({"color": "red"}, "color", "unknown_parameter", "Remove it"),
    ],
)
def test_a_bad_webhook_is_refused_with_what_to_do(
    api_alone: httpx.Client, fields: dict[str, Any], param: str, code: str, words: str
) -> None:
    response = create(api_alone, **fields)
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert words in error["message"]
    assert api_alone.get("/v1/webhooks").json()["data"] == []


def test_metadata_is_refused_and_localhost_taken_where_private_addresses_are_allowed(
    serve: Callable[..., httpx.Client],
) -> None:
    api = serve(webhooks={"allow_private": True, "max_per_tenant": 2})
    assert error_of(create(api, url="http://169.254.169.254/"))["code"] == "forbidden_address"
    for _ in range(2):
        assert create(api, url="http://localhost:9/").status_code == 201
    response = create(api)
    assert (response.status_code, error_of(response)["code"]) == (409, "too_many_webhooks")
