"""Nothing of one tenant is visible to another by any route, and no route can be forgotten."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.app import create_app
from api.settings import ApiSettings
from db.session import SessionFactory
from tests.api.live import job_body
from tests.api.openai.batch_files import chat_line, create, errors_of, jsonl, wait
from tests.api.two_tenants import MARK, TwoTenants, problems, two_tenants

Send = Callable[[TwoTenants, httpx.Client], httpx.Response]


def _new_job(_: TwoTenants, client: httpx.Client) -> httpx.Response:
    # With the words of a submission that the owner made before.
    body = job_body(problems=problems(), name=f"{MARK}-live", family=MARK, stop=[MARK])
    response = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"{MARK}-live"})
    assert response.status_code == 201, "a retry of another tenant's submission"
    client.post(f"/v1/jobs/{response.json()['id']}/cancel")
    return response


def _new_batch(world: TwoTenants, client: httpx.Client) -> httpx.Response:
    response = create(client, input_file_id=world.ids["file_id"][-1])
    failed = wait(client, response.json()["id"])
    assert errors_of(failed) == [("invalid_request", "file_id", None)]
    return response


def _new_file(_: TwoTenants, client: httpx.Client) -> httpx.Response:
    files = {"file": ("set.jsonl", jsonl(chat_line()))}
    return client.post("/v1/files", files=files, data={"purpose": "batch"})


def _new_key(_: TwoTenants, client: httpx.Client) -> httpx.Response:
    return client.post("/v1/keys", json={"label": "ci"})


def _quote(_: TwoTenants, client: httpx.Client) -> httpx.Response:
    return client.post("/v1/quotes", json=job_body(deadline=None, deadlines=["1h"]))


def _new_webhook(_: TwoTenants, client: httpx.Client) -> httpx.Response:
    body = {"url": f"https://{MARK}.example.test", "event_types": ["job.completed"]}
    return client.post("/v1/webhooks", json=body)


BODIES: dict[str, dict[str, Any]] = {
    "PATCH /v1/jobs/{job_id}": {"json": {"deadline": "2h"}},
    "POST /v1/jobs/{job_id}/retry": {"json": {"deadline": "1h"}},
    "PATCH /v1/webhooks/{webhook_id}": {"json": {"name": "mine"}},
}
"""What a request for an object of the owner sends beside its path, where it sends a body."""

BY_TENANT = {"group_by": "tenant"}
LISTS: dict[str, dict[str, str]] = {
    "GET /v1/jobs": {},
    "GET /v1/events": {},
    "GET /v1/batches": {},
    "GET /v1/files": {},
    "GET /v1/keys": {},
    "GET /v1/webhooks": {},
    "GET /v1/refusals": {},
    "GET /v1/reports/latency": BY_TENANT,
    "GET /v1/reports/attainment": BY_TENANT,
    "GET /v1/reports/calibration": BY_TENANT,
    "GET /v1/reports/accuracy": BY_TENANT,
    "GET /v1/reports/speculation": BY_TENANT,
    "GET /v1/reports/costs": BY_TENANT,
    "GET /v1/reports/compare": BY_TENANT,
}
"""Lists, with a query that would tell most. The owner's have entries, the other's have none."""

OWN: dict[str, Send] = {
    "POST /v1/jobs": _new_job,
    "POST /v1/batches": _new_batch,
    "POST /v1/files": _new_file,
    "POST /v1/keys": _new_key,
    "POST /v1/webhooks": _new_webhook,
    "POST /v1/quotes": _quote,
    "GET /v1/tenant": lambda _, client: client.get("/v1/tenant"),
}
"""Requests for something of one's own, most of them in words that name what the owner has."""

FOR_ALL = {
    "GET /v1/workers",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /docs",
    "GET /docs/oauth2-redirect",
    "GET /redoc",
    "GET /openapi.json",
    "GET /",
    "GET /history",
    "GET /calibration",
    "GET /quote",
}
"""The same for everybody."""

PAGE = {"GET /jobs/{job_id}", "GET /page/{name}"}
"""Files of the page, which know no job and no tenant: one document under every id."""

_CLOCKS = {"slack_s", "time_left_s", "failing_since"}
UNKNOWN = {
    "job_id": "job_" + "0" * 32,
    "key_id": "key_0",
    "file_id": "file-0",
    "batch_id": "batch_0",
    "webhook_id": "wh_" + "0" * 32,
    "event_id": "evt_" + "0" * 32,
    # Of a problem within a job: every job has one.
    "position": "0",
}


def _lasting(answer: httpx.Response) -> dict[str, Any]:
    """What an object shows, without what changes by itself."""
    assert answer.is_success, answer.text
    shown: dict[str, Any] = answer.json()
    return {name: value for name, value in shown.items() if name not in _CLOCKS}


def _routes() -> list[str]:
    """Every method and path of the application."""
    app = create_app(ApiSettings(database_url="postgresql://nowhere"))
    found = []
    for route in iter_route_contexts(app.routes):
        # Of what is mounted the methods and paths are not known.
        assert route.methods, f"{route}: say here how to walk it"
        found += [f"{method} {route.path}" for method in route.methods - {"HEAD", "OPTIONS"}]
    return sorted(found)


ROUTES = _routes()


@pytest.fixture(scope="module")
def world(url: str, shared_sessions: SessionFactory) -> Iterator[TwoTenants]:
    """Two tenants that the tests of this module share; none of them changes what the owner has."""
    made = two_tenants(url, shared_sessions)
    yield made
    made.owner.close()
    made.other.close()


def test_it_is_said_how_to_call_each_route() -> None:
    without_id = {route for route in ROUTES if "{" not in route}
    assert without_id == LISTS.keys() | OWN.keys() | FOR_ALL


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route and route not in PAGE])
def test_an_object_of_another_tenant_is_as_unknown_as_one_that_never_was(
    world: TwoTenants, route: str
) -> None:
    method, path = route.split()
    names = re.findall(r"{(\w+)}", path)
    body = BODIES.get(route, {})
    unknown = {name: UNKNOWN[name] for name in names}
    expected = world.other.request(method, path.format(**unknown), **body)
    assert expected.status_code == 404
    for found in product(*(world.ids.get(name, [UNKNOWN[name]]) for name in names)):
        ids = dict(zip(names, found, strict=True))
        about = path[: path.index("}") + 1].format(**ids)
        before = _lasting(world.owner.get(about))
        answer = world.other.request(method, path.format(**ids), **body)
        told = answer.text
        for name in names:
            told = told.replace(ids[name], unknown[name])
        assert (answer.status_code, told) == (404, expected.text)
        assert world.leaks(told) == []
        assert _lasting(world.owner.get(about)) == before
        if method == "GET":
            with world.owner.stream("GET", path.format(**ids)) as owned:
                assert owned.is_success


@pytest.mark.parametrize("route", LISTS)
def test_a_list_has_nothing_of_another_tenant(world: TwoTenants, route: str) -> None:
    path = route.split()[1]
    owned = world.owner.get(path, params=LISTS[route]).json()["data"]
    assert owned
    answer = world.other.get(path, params=LISTS[route])
    assert answer.is_success
    mine = answer.json()["data"]
    # Its own key, with which it asks.
    assert len(mine) == (route == "GET /v1/keys")
    assert world.leaks(answer.text) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/jobs", "job_id"), ("/v1/batches", "batch_id"), ("/v1/files", "file_id")],
)
def test_a_list_cannot_begin_behind_an_object_of_another_tenant(
    world: TwoTenants, path: str, name: str
) -> None:
    expected = world.other.get(path, params={"after": UNKNOWN[name]})
    assert expected.status_code == 400
    for its_id in world.ids[name]:
        answer = world.other.get(path, params={"after": its_id})
        assert (answer.status_code, answer.text) == (400, expected.text)


@pytest.mark.parametrize("route", OWN)
def test_what_one_makes_shows_nothing_of_another_tenant(world: TwoTenants, route: str) -> None:
    answer = OWN[route](world, world.other)
    assert answer.is_success, answer.text
    # Its own words are its own, even where they are those of the other.
    told = answer.text.replace(MARK, "").replace(world.ids["file_id"][-1], "")
    assert world.leaks(told) == []


@pytest.mark.parametrize("route", sorted(FOR_ALL))
def test_what_is_for_all_shows_nothing_of_a_tenant(world: TwoTenants, route: str) -> None:
    answer = world.other.get(route.split()[1])
    assert answer.is_success
    assert world.leaks(answer.text) == []


def test_a_stream_has_no_event_of_another_tenant(world: TwoTenants) -> None:
    mine = world.other.post("/v1/jobs", json=job_body(name="mine")).json()["id"]
    # From the first event of all on; those of the owner are older than one's own.
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
    told = ""
    with world.other.stream("GET", "/v1/events", headers=headers) as stream:
        for line in stream.iter_lines():
            told += line
            if mine in line:
                break
    assert mine in told
    assert world.leaks(told) == []
