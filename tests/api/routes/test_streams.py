"""Events as pages and as streams: nothing twice, nothing missing, everything freed."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from sqlalchemy import text

from db import wake
from db.endings import finish_cancelled, finish_jobs
from db.events import record
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.session import SessionFactory, transaction
from scheduler.core.event_kinds import EventKind
from tests.api.conftest import Serve
from tests.api.live import error_of
from tests.api.routes.test_jobs import UNKNOWN, solve
from tests.factories import after as later
from tests.factories import stored_job

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def job_id(sessions: SessionFactory) -> str:
    with transaction(sessions) as session:
        return stored_job(session, num_problems=2)


def note(sessions: SessionFactory, job_id: str, *numbers: int) -> None:
    """Store events, each in a transaction of its own."""
    for number in numbers:
        with transaction(sessions) as session:
            record(
                session,
                job_id=job_id,
                kind=EventKind.PLAN_STORED,
                data={"n": number},
                now=datetime.now(UTC),
            )


def end(sessions: SessionFactory, job_id: str) -> None:
    with transaction(sessions) as session:
        request_cancel(session, LOCAL_TENANT, job_id, now=datetime.now(UTC))
    with transaction(sessions) as session:
        finish_cancelled(session, job_id, now=datetime.now(UTC))


@contextmanager
def streamed(
    api: httpx.Client, path: str, headers: dict[str, str] | None = None, **params: Any
) -> Iterator[Iterator[ServerSentEvent]]:
    with connect_sse(api, "GET", path, headers=headers or {}, params=params) as source:
        assert source.response.status_code == 200
        yield source.iter_sse()


def stored(events: Iterator[ServerSentEvent]) -> Iterator[ServerSentEvent]:
    return (event for event in events if event.event != "job.progress")


def numbers(events: list[ServerSentEvent]) -> list[int | None]:
    return [event.json()["data"].get("n") for event in events]


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.02)


def num_streams(api: httpx.Client) -> int:
    lines = api.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("slackline_event_streams ")]
    return int(float(line.split()[1]))


def test_a_stream_tells_what_was_and_what_comes_and_ends_with_the_job(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    note(sessions, job_id, 1)
    with streamed(api, f"/v1/jobs/{job_id}/events") as source:
        events = stored(source)
        told = [next(events), next(events)]
        note(sessions, job_id, 2)
        told.append(next(events))
        end(sessions, job_id)
        told += events

    assert [e.event for e in told] == [
        "job.queued", "plan.stored", "plan.stored", "job.cancelling", "job.cancelled"
    ]  # fmt: skip
    pages = api.get(f"/v1/jobs/{job_id}/events").json()["data"]
    assert [e.json() for e in told] == pages
    assert [int(e.id) for e in told] == [page["id"] for page in pages]


@pytest.mark.parametrize("how", ["header", "parameter"])
def test_a_client_that_comes_back_goes_on_where_it_was(
    api: httpx.Client, sessions: SessionFactory, job_id: str, how: str
) -> None:
    told = []
    last_id = "0"
    for number in range(6):
        note(sessions, job_id, 2 * number)
        given: dict[str, Any] = {"headers": {"Last-Event-ID": last_id}}
        if how == "parameter":
            given = {"after": last_id}
        with streamed(api, f"/v1/jobs/{job_id}/events", **given) as source:
            events = stored(source)
            told += [next(events)] + ([next(events)] if number == 0 else [])
            # It leaves while more is on its way.
            note(sessions, job_id, 2 * number + 1)
            if number % 2:
                told.append(next(events))
        last_id = told[-1].id
    end(sessions, job_id)
    with streamed(api, f"/v1/jobs/{job_id}/events", after=last_id) as source:
        told += stored(source)

    assert numbers(told)[1:-2] == list(range(12))
    assert len({event.id for event in told}) == len(told)


def test_who_has_been_told_everything_is_told_not_to_ask_again(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    end(sessions, job_id)
    with streamed(api, f"/v1/jobs/{job_id}/events") as source:
        *_, last = list(source)

    for position in (last.id, str(10**18)):
        over = api.get(f"/v1/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": position})
        assert (over.status_code, over.content) == (204, b"")


def test_an_id_from_the_future_hides_nothing_that_comes(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    with streamed(api, f"/v1/jobs/{job_id}/events", after=10**18) as source:
        assert next(source).event == "job.progress"
        end(sessions, job_id)
        assert [event.event for event in stored(source)] == ["job.cancelling", "job.cancelled"]


def test_progress_is_streamed_as_it_changes_and_never_stored(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    path = f"/v1/jobs/{job_id}/events"
    with streamed(api, path) as source:
        progress = (event for event in source if event.event == "job.progress")
        first = next(progress)
        solve(sessions, job_id, num_answered=1)
        with transaction(sessions) as session:
            wake.notify(session)
        second = next(progress)

    assert [event.json()["id"] for event in (first, second)] == [None, None]
    told = [event.json()["data"] for event in (first, second)]
    assert [data["progress"]["answered"] for data in told] == [0, 1]
    assert [data["state"] for data in told] == ["queued", "running"]
    assert all(data["slack_s"] is not None and data["num_problems"] == 2 for data in told)
    assert "job.progress" not in {event["kind"] for event in api.get(path).json()["data"]}


def test_a_tenant_follows_all_its_jobs_and_nobody_else_s(
    api: httpx.Client, stranger: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    with transaction(sessions) as session:
        other_id = stored_job(session, num_problems=1)
    everything = api.get("/v1/events").json()["data"]
    assert [event["job_id"] for event in everything] == [job_id, other_id]
    with streamed(api, "/v1/events") as mine, streamed(stranger, "/v1/events") as theirs:
        # From now on: that both were submitted is not told.
        assert {next(source).id for source in (mine, theirs)} == {str(everything[-1]["id"])}
        assert {next(mine).json()["job_id"], next(mine).json()["job_id"]} == {job_id, other_id}
        solve(sessions, other_id, num_answered=1)
        with transaction(sessions) as session:
            finish_jobs(session, now=later(2))
        note(sessions, job_id, 1)
        told: list[ServerSentEvent] = []
        while not told or told[-1].event != "plan.stored":
            told.append(next(stored(mine)))
        stranger.post("/v1/jobs", json={})
        their_tenant = stranger.get("/v1/events").json()
        assert their_tenant["data"] == []
        del theirs
    assert ("job.completed", other_id) in [(e.event, e.json()["job_id"]) for e in told]
    with streamed(api, "/v1/events", after=0) as source:
        assert next(source).id == "0"
        again = [next(stored(source)) for _ in range(2 + len(told))]
    assert [event.id for event in again[2:]] == [event.id for event in told]


def test_a_tenant_that_leaves_before_the_first_event_misses_nothing(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    with streamed(api, "/v1/events") as source:
        began = next(source)
    assert (began.data, began.event) == ("", "message")
    note(sessions, job_id, 1)
    with streamed(api, "/v1/events", headers={"Last-Event-ID": began.id}) as source:
        assert numbers([next(event for event in stored(source) if event.data)]) == [1]


def test_a_stranger_sees_no_stream(stranger: httpx.Client, job_id: str) -> None:
    for unknown in (job_id, UNKNOWN):
        assert stranger.get(f"/v1/jobs/{unknown}/events", headers=STREAM).status_code == 404


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "9" * 19, "²"])
def test_a_position_that_is_no_id_is_refused(api: httpx.Client, job_id: str, wrong: str) -> None:
    headers = httpx.Headers(STREAM | {"Last-Event-ID": wrong}, encoding="utf-8")

    response = api.get(f"/v1/jobs/{job_id}/events", headers=headers)

    assert response.status_code == 400
    assert error_of(response)["param"] == "Last-Event-ID"


def test_streams_are_limited_and_those_left_make_room(serve: Serve, job_id: str) -> None:
    api = serve(max_streams=2)
    path = f"/v1/jobs/{job_id}/events"
    with ExitStack() as open_streams:
        sources = [open_streams.enter_context(streamed(api, path)) for _ in range(2)]
        assert [next(source).event for source in sources] == ["job.queued"] * 2
        refused = api.get(path, headers=STREAM)
        assert refused.status_code == 429
        assert error_of(refused)["code"] == "too_many_streams"
        assert int(refused.headers["retry-after"]) > 0
        assert api.get(path).status_code == 200
        assert num_streams(api) == 2
    wait_until(lambda: num_streams(api) == 0)
    with streamed(api, path) as source:
        next(source)


def test_many_streams_hold_no_connection_to_the_store_each(
    serve: Serve, sessions: SessionFactory, job_id: str
) -> None:
    api = serve(max_streams=100, pool_size=2)

    def num_connections() -> int:
        with transaction(sessions) as session:
            found = session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            )
            return int(found or 0)

    before = num_connections()
    limits = httpx.Limits(max_connections=100)
    with (
        httpx.Client(base_url=api.base_url, headers=api.headers, limits=limits) as client,
        ExitStack() as open_streams,
    ):
        sources = [
            stored(open_streams.enter_context(streamed(client, f"/v1/jobs/{job_id}/events")))
            for _ in range(40)
        ]
        assert {next(source).event for source in sources} == {"job.queued"}
        # A pool of two with two more in a rush, and the one that listens.
        assert num_connections() - before <= 5
        end(sessions, job_id)
        assert {tuple(e.event for e in source) for source in sources} == {
            ("job.cancelling", "job.cancelled")
        }


def test_a_silent_stream_gives_signs_of_life(serve: Serve, job_id: str) -> None:
    api = serve(stream_heartbeat_s=0.05)
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=STREAM) as response:
        assert ": heartbeat" in response.iter_lines()


def test_a_stream_whose_life_is_over_ends_and_goes_on_in_another(
    serve: Serve, sessions: SessionFactory, job_id: str
) -> None:
    api = serve(max_stream_s=0.5)
    with streamed(api, f"/v1/jobs/{job_id}/events") as source:
        (first,) = stored(source)
    end(sessions, job_id)
    with streamed(api, f"/v1/jobs/{job_id}/events", after=first.id) as source:
        assert [e.event for e in stored(source)] == ["job.cancelling", "job.cancelled"]


def test_streams_outlive_a_store_that_drops_every_connection(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    with streamed(api, f"/v1/jobs/{job_id}/events") as source:
        events = stored(source)
        next(events)
        with transaction(sessions) as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        note(sessions, job_id, 1)
        assert json.loads(next(events).data)["data"] == {"n": 1}


def test_more_events_than_a_stream_is_told_at_once_all_arrive(
    api: httpx.Client, sessions: SessionFactory, job_id: str
) -> None:
    with streamed(api, f"/v1/jobs/{job_id}/events") as source:
        events = stored(source)
        next(events)
        with transaction(sessions) as session:
            for number in range(1200):
                record(
                    session,
                    job_id=job_id,
                    kind=EventKind.PLAN_STORED,
                    data={"n": number},
                    now=datetime.now(UTC),
                )
        assert numbers([next(events) for _ in range(1200)]) == list(range(1200))
