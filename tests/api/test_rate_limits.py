"""Requests per minute and key, on a real Redis."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from structlog.testing import capture_logs

from api.rate_limits import RateLimits
from api.settings import ApiSettings
from db import keys
from db.session import SessionFactory, transaction
from infra.servers import free_port
from tests.api.live import client_of, error_of
from tests.factories import NOW

Serve = Callable[..., httpx.Client]


def test_null_in_the_environment_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/")
    monkeypatch.setenv("SLACKLINE_MAX_READS_PER_MIN", "null")
    assert ApiSettings.model_validate({}).max_reads_per_min is None


def new_key(sessions: SessionFactory) -> str:
    """Secret of a key of the local tenant."""
    secret = keys.new_secret()
    with transaction(sessions) as session:
        tenant_id = keys.ensure_local_tenant(session, now=NOW)
        digest = keys.hash_secret(secret)
        keys.insert_api_key(session, tenant_id=tenant_id, key_sha256=digest, label="k", now=NOW)
    return secret


@pytest.fixture
def limited(serve: Serve, sessions: SessionFactory, redis_url: str) -> Iterator[httpx.Client]:
    """A client that may read three times and submit twice a minute."""
    local = serve(redis_url=redis_url, max_reads_per_min=3, max_submissions_per_min=2)
    with client_of(str(local.base_url), new_key(sessions)) as client:
        yield client


def test_reads_and_submissions_are_limited_apart(limited: httpx.Client) -> None:
    remaining = []
    for _ in range(3):
        response = limited.get("/v1/jobs")
        assert response.status_code == 200
        assert response.headers["ratelimit-policy"] == '"reads";q=3;w=60'
        _, rest, reset = response.headers["ratelimit"].split(";")
        remaining.append(rest)
        assert 1 <= int(reset.removeprefix("t=")) <= 60
    assert remaining == ["r=2", "r=1", "r=0"]
    response = limited.get("/v1/jobs")
    error = error_of(response)
    assert (response.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["type"] == "rate_limit_error"
    wait_s = int(response.headers["retry-after"])
    assert 1 <= wait_s <= 60
    assert f"Retry in {wait_s} seconds" in error["message"]
    assert response.headers["ratelimit"].startswith('"reads";r=0;t=')
    # Bad input counts as well, and a body of any size is not read when it is one too many.
    statuses = [limited.post("/v1/jobs", content=b"x").status_code for _ in range(3)]
    assert statuses == [415, 415, 429]


def test_a_stream_tells_its_rate_too(limited: httpx.Client) -> None:
    response = limited.get("/v1/files/file-0/content")
    assert response.status_code == 404
    assert response.headers["ratelimit-policy"] == '"reads";q=3;w=60'


def test_other_keys_health_and_metrics_are_not_touched(
    limited: httpx.Client, sessions: SessionFactory
) -> None:
    while limited.get("/v1/jobs").status_code == 200:
        pass
    for path in ("/healthz", "/readyz", "/metrics") * 2:
        response = limited.get(path)
        assert response.status_code == 200
        assert "ratelimit" not in response.headers
    with client_of(str(limited.base_url), new_key(sessions)) as other:
        assert other.get("/v1/jobs").status_code == 200
    # The local key is the operator's own.
    with client_of(str(limited.base_url)) as local:
        assert [local.get("/v1/jobs").status_code for _ in range(5)] == [200] * 5


def test_nobody_is_limited_while_redis_is_away(sessions: SessionFactory, serve: Serve) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    local = serve(redis_url=away, max_reads_per_min=1)
    with client_of(str(local.base_url), new_key(sessions)) as client, capture_logs() as logs:
        responses = [client.get("/v1/jobs") for _ in range(3)]
    assert [response.status_code for response in responses] == [200] * 3
    assert "ratelimit" not in responses[0].headers
    assert [line["event"] for line in logs] == ["redis.away"]


def test_without_a_redis_or_a_limit_nothing_is_counted(redis_url: str) -> None:
    nowhere = "postgresql://nowhere"
    without = RateLimits(ApiSettings(database_url=nowhere, max_reads_per_min=1))
    unlimited = RateLimits(
        ApiSettings(database_url=nowhere, redis_url=redis_url, max_reads_per_min=None)
    )
    for limits in (without, unlimited):
        assert [limits.count("key", reads=True) for _ in range(3)] == [None] * 3
