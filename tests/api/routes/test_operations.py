"""Health, metrics, the error envelope on every path, and the OpenAPI document."""

import json
import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from structlog.testing import capture_logs

from db.session import SessionFactory, transaction
from tests.api.live import error_of, job_body

NOWHERE = "postgresql://127.0.0.1:1/nothing"


def metrics_of(api: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_migrated_store_makes_the_api_ready(api_alone: httpx.Client) -> None:
    assert api_alone.get("/healthz").json() == {"status": "ok"}
    assert api_alone.get("/readyz").json() == {"status": "ok"}


def test_an_empty_store_is_not_ready_and_says_how_to_migrate(
    serve: Callable[..., httpx.Client], empty_database_url: str
) -> None:
    response = serve(database_url=empty_database_url).get("/readyz")

    assert response.status_code == 503
    assert "slackline migrate" in error_of(response)["message"]


def test_without_postgres_the_process_lives_and_answers_503_to_retry(
    serve: Callable[..., httpx.Client],
) -> None:
    api = serve(database_url=NOWHERE)

    assert api.get("/healthz").status_code == 200
    for path in ("/readyz", "/v1/jobs"):
        response = api.get(path)
        assert response.status_code == 503
        assert error_of(response)["code"] == "store_unavailable"
        assert int(response.headers["retry-after"]) > 0
    assert metrics_of(api)[("slackline_store_up", ())] == 0


def test_gauges_follow_the_store(api: httpx.Client) -> None:
    api.post("/v1/jobs", json=job_body(3))

    metrics = metrics_of(api)

    assert metrics[("slackline_store_up", ())] == 1
    assert metrics[("slackline_pending_problems", ())] == 3
    assert metrics[("slackline_live_jobs", (("state", "queued"),))] == 1
    assert metrics[("slackline_live_jobs", (("state", "running"),))] == 0
    assert metrics[("slackline_live_workers", ())] == 1
    assert 0 < metrics[("slackline_min_slack_seconds", ())] <= 3_600


def test_a_client_that_leaves_in_mid_upload_is_no_server_error(
    serve: Callable[..., httpx.Client], sessions: SessionFactory
) -> None:
    api = serve()
    labels = (("method", "POST"), ("route", "/v1/jobs"), ("status", "499"))

    def broken() -> Iterator[bytes]:
        yield b'{"prompt": "1+1="}'
        raise ConnectionAbortedError

    with capture_logs() as logs:
        with pytest.raises(ConnectionAbortedError):
            api.post("/v1/jobs", content=broken(), headers={"content-type": "application/x-ndjson"})

        give_up_at = time.monotonic() + 10
        while ("slackline_http_requests_total", labels) not in metrics_of(api):
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
    assert not [line for line in logs if line["event"] == "request.failed"]
    with transaction(sessions) as session:
        assert session.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0


def test_requests_are_counted_by_route_and_not_by_path(
    serve: Callable[..., httpx.Client],
) -> None:
    api = serve()
    for path in ("/v1/jobs/job_1", "/v1/jobs/job_2", "/nowhere/1", "/nowhere/2"):
        api.get(path)
    api.request("BREW", "/v1/jobs")

    metrics = metrics_of(api)

    def count(method: str, route: str, status: str) -> float:
        labels = (("method", method), ("route", route), ("status", status))
        return metrics[("slackline_http_requests_total", labels)]

    assert count("GET", "/v1/jobs/{job_id}", "404") == 2
    assert count("GET", "unmatched", "404") == 2
    assert count("other", "/v1/jobs", "405") == 1
    assert not any("tenant" in str(key) for key in metrics)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nowhere", 404, "No such path: /nowhere"),
        ("GET", "/v1/jobs/", 404, "No such path"),
        ("DELETE", "/v1/jobs", 405, "DELETE is not allowed on /v1/jobs"),
        ("GET", "/v1/jobs?limit=0", 400, "limit"),
    ],
)
def test_every_refusal_has_the_envelope_and_a_request_id(
    api: httpx.Client, method: str, path: str, status: int, words: str
) -> None:
    response = api.request(method, path)

    assert response.status_code == status
    assert words in error_of(response)["message"]
    assert response.headers["x-request-id"].startswith("req_")


def test_a_request_id_of_the_client_is_kept_when_it_is_a_plain_word(
    api_alone: httpx.Client,
) -> None:
    def echoed(request_id: str) -> str:
        response = api_alone.get("/healthz", headers={"X-Request-ID": request_id})
        return response.headers["x-request-id"]

    assert echoed("trace-1.a") == "trace-1.a"
    assert echoed("two words").startswith("req_")
    assert echoed("x" * 129).startswith("req_")


def test_a_crash_is_a_500_with_the_envelope_that_names_the_request(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=job_body()).json()["id"]
    with transaction(sessions) as session:
        session.execute(text("ALTER TABLE job_events RENAME TO lost"))
    try:
        with capture_logs() as logs:
            response = api.get(f"/v1/jobs/{job_id}/events")
    finally:
        with transaction(sessions) as session:
            session.execute(text("ALTER TABLE lost RENAME TO job_events"))

    error = error_of(response)
    assert (response.status_code, error["type"]) == (500, "server_error")
    assert response.headers["x-request-id"] in error["message"]
    assert "job_events" not in response.text
    (line,) = (line for line in logs if line["event"] == "request.failed")
    assert (line["job_id"], line["request_id"]) == (job_id, response.headers["x-request-id"])


def test_the_openapi_document_describes_every_route(api_alone: httpx.Client) -> None:
    document = api_alone.get("/openapi.json").json()

    tags = {tag["name"] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert set(operation["tags"]) <= tags
            refusals = {s: r for s, r in operation["responses"].items() if s >= "400"}
            for status, response in refusals.items():
                schema = response["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith("/ErrorOut"), (path, status)
            assert path.startswith("/v1/") == bool(operation.get("security")), path
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    submit = document["paths"]["/v1/jobs"]["post"]
    assert set(submit["requestBody"]["content"]) == {
        "application/json",
        "application/x-ndjson",
        "multipart/form-data",
    }
