"""The Python client against the live API."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.client import Client, Problem, SlacklineError
from db import events
from db.endings import finish_cancelled
from db.session import SessionFactory, transaction
from infra.servers import free_port
from scheduler.core.event_kinds import EventKind
from tests.api.client.scripted import STOPPING, Script, scripted
from tests.api.conftest import Serve
from tests.api.live import LOCAL_KEY
from tests.factories import MODEL, NOW

PROBLEMS: list[Problem | str] = [
    {"id": "a", "prompt": "1+1=", "reference_answer": "2"},
    {"id": "b", "prompt": "\u00e9\u2028 1+2="},
    "1+3=",
]


@pytest.fixture
def client(url: str, worker: str) -> Iterator[Client]:  # noqa: ARG001
    with Client(url, LOCAL_KEY, retry_for_s=0.2) as client:
        yield client


def ids_of(client: Client, job_id: str) -> list[str]:
    return [result["id"] for result in client.results(job_id)]


def test_problems_lists_and_files_can_be_submitted(client: Client, tmp_path: Path) -> None:
    lines = tmp_path / "set.jsonl"
    lines.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS[:2]))
    document = tmp_path / "set.json"
    document.write_text(json.dumps(PROBLEMS[:2]))
    wrapped = tmp_path / "wrapped.json"
    wrapped.write_text(json.dumps({"problems": PROBLEMS[:2]}))

    job = client.submit(
        PROBLEMS, model=MODEL, deadline="1h", name="three", max_branches=4, temperature=0.5
    )

    assert (job["name"], job["max_branches"], job["temperature"]) == ("three", 4, 0.5)
    assert ids_of(client, job["id"]) == ["a", "b", "problem-3"]
    for path in (lines, document, wrapped):
        job = client.submit(path, model=MODEL, deadline="1h")
        assert ids_of(client, job["id"]) == ["a", "b"]


def test_results_end_with_a_line_feed_only(client: Client) -> None:
    key = "a\u2028b\x85c"
    job = client.submit([{"id": key, "prompt": "1+1="}], model=MODEL, deadline="1h")

    assert [result["id"] for result in client.results(job["id"])] == [key]
    assert [row["problem_id"] for row in client.grades(job["id"])] == [key]


def test_a_deadline_may_be_a_duration_or_an_instant(client: Client) -> None:
    due_at = datetime.now(UTC) + timedelta(hours=1)

    exact = client.submit(["x"], model=MODEL, deadline=due_at)
    relative = client.submit(["x"], model=MODEL, deadline=timedelta(minutes=90))

    assert datetime.fromisoformat(exact["deadline_at"]) == due_at
    assert relative["time_left_s"] == pytest.approx(5_400, abs=5)


def test_a_refusal_carries_the_servers_words(client: Client) -> None:
    with pytest.raises(SlacklineError, match="earliest feasible finish") as infeasible:
        client.submit(["x"] * 500, model=MODEL, deadline="1s")
    assert (infeasible.value.status, infeasible.value.code) == (422, "deadline_infeasible")
    assert "earliest_finish_at" in infeasible.value.details

    with pytest.raises(SlacklineError, match="No job found") as missing:
        client.job("job_" + "0" * 32)
    assert (missing.value.status, missing.value.code) == (404, "not_found")

    with pytest.raises(SlacklineError, match="not a job id"):
        client.job("../workers")
    with pytest.raises(SlacklineError, match="No job found"):
        list(client.results("job_" + "0" * 32))


def test_files_that_cannot_be_read_are_named(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    plain = tmp_path / "plain.json"
    plain.write_text("7")
    for path, words in (
        (tmp_path / "none.jsonl", "No such file"),
        (tmp_path, "Is a directory"),
        (broken, "not valid JSON"),
        (plain, "no list of problems"),
    ):
        with pytest.raises(SlacklineError, match=words) as caught:
            client.submit(path, model=MODEL, deadline="1h")
        assert str(path) in caught.value.message


def test_one_idempotency_key_makes_one_job(client: Client) -> None:
    first, again = (
        client.submit(PROBLEMS, model=MODEL, deadline="1h", idempotency_key="k") for _ in range(2)
    )
    other = client.submit(PROBLEMS, model=MODEL, deadline="1h")

    assert first["id"] == again["id"] != other["id"]
    assert [job["id"] for job in client.jobs()] == [other["id"], first["id"]]
    assert [job["id"] for job in client.jobs(limit=1)] == [other["id"]]
    assert list(client.jobs(state="failed")) == []


def test_a_submission_whose_answer_is_lost_is_sent_again_and_makes_one_job(
    url: str, client: Client
) -> None:
    with _losing_answers(url, num_lost=2) as flaky_url, Client(flaky_url, LOCAL_KEY) as flaky:
        job = flaky.submit(PROBLEMS, model=MODEL, deadline="1h")

    assert [found["id"] for found in client.jobs()] == [job["id"]]


def test_a_server_that_is_down_is_a_clear_error() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    for bad_url, words, code in (
        (address, "slackline up", "connection_error"),
        ("localhost:8000", "Cannot reach", "invalid_url"),
    ):
        with (
            Client(bad_url, LOCAL_KEY, retry_for_s=0.2) as client,
            pytest.raises(SlacklineError, match=words) as caught,
        ):
            client.workers()
        assert (caught.value.status, caught.value.code) == (None, code)


def test_a_server_that_stops_is_asked_again_when_it_is_back() -> None:
    script: Script = [(503, STOPPING, {}), (200, {"id": "job_1"}, {})]
    with scripted(script) as url, Client(url, LOCAL_KEY) as client:
        assert client.job("job_1")["id"] == "job_1"
    assert script == []


def test_a_stream_is_opened_again_too() -> None:
    script: Script = [(503, STOPPING, {}), (200, {"id": "a"}, {})]
    with scripted(script) as url, Client(url, LOCAL_KEY) as client:
        assert [result["id"] for result in client.results("job_1")] == ["a"]
    assert script == []


def test_a_pause_that_the_server_asks_for_is_kept_or_told() -> None:
    limited = {"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}}
    script: Script = [(429, limited, {"Retry-After": "0"}), (429, limited, {"Retry-After": "60"})]
    with (
        scripted(script) as url,
        Client(url, LOCAL_KEY) as client,
        pytest.raises(SlacklineError, match="Slow down") as caught,
    ):
        client.job("job_1")
    # The first was tried again, the second would have been too late.
    assert script == []
    assert caught.value.retry_after_s == 60.0


def test_watching_ends_with_the_jobs_end(client: Client, sessions: SessionFactory) -> None:
    job_id = client.submit(PROBLEMS, model=MODEL, deadline="1h")["id"]
    client.cancel(job_id)
    states = []
    for job in client.watch(job_id, poll_s=0.01):
        states.append(job["state"])
        if len(states) == 2:
            with transaction(sessions) as session:
                finish_cancelled(session, job_id, now=datetime.now(UTC))

    assert states == ["cancelling", "cancelling", "cancelled"]
    assert client.wait(job_id)["state"] == "cancelled"
    assert [event["kind"] for event in client.events(job_id)][-1] == "job.cancelled"


def test_events_come_from_all_pages(client: Client, sessions: SessionFactory) -> None:
    job_id = client.submit(PROBLEMS, model=MODEL, deadline="1h")["id"]
    numbered = [
        events.Event(job_id, EventKind.PLAN_STORED, {"number": number}) for number in range(1500)
    ]
    with transaction(sessions) as session:
        events.record_all(session, numbered, now=NOW)

    found = [e["data"]["number"] for e in client.events(job_id) if e["kind"] == "plan.stored"]

    assert found == list(range(1500))


def test_a_set_is_quoted_from_a_file_a_list_or_its_size(client: Client, tmp_path: Path) -> None:
    lines = tmp_path / "set.jsonl"
    lines.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS[:2]))
    due_at = datetime.now(UTC) + timedelta(hours=2)

    of_file = client.quote(lines, model=MODEL, deadlines=["1h", timedelta(minutes=30), due_at])
    of_list = client.quote(PROBLEMS, model=MODEL, min_accuracy=0.01)
    of_size = client.quote(model=MODEL, num_problems=40, prompt_chars=100.0)

    first, second, third = of_file["deadlines"]
    assert (first["deadline_s"], second["deadline_s"]) == (1_800.0, 3_600.0)
    assert 7_100 < third["deadline_s"] < 7_200
    assert of_list["num_problems"] == 3
    assert of_list["shortest_deadline_s"] is not None
    assert of_size["num_problems"] == 40
    assert of_size["deadlines"]
    assert not list(client.jobs())
    with pytest.raises(SlacklineError, match="mean_prompt_tokens"):
        client.quote(model=MODEL, num_problems=40)


def test_a_job_is_explained(client: Client) -> None:
    job = client.submit(PROBLEMS, model=MODEL, deadline="1h")

    explanation = client.explain(job["id"])

    assert explanation["job_id"] == job["id"]
    assert explanation["now"] is not None
    assert explanation["now"]["plan"] == job["plan"]
    with pytest.raises(SlacklineError, match="No job found"):
        client.explain("job_" + "0" * 32)


def test_reports_and_workers_are_read(client: Client) -> None:
    now = datetime.now(UTC)

    report = client.report(group_by="model", start=now - timedelta(hours=1), end=now)

    assert report["group_by"] == "model"
    assert client.report("accuracy", every="day", split="8x2")["object"] == "accuracy_report"
    assert client.comparison("attainment", start=now - timedelta(days=1))["report"] == "attainment"
    assert [worker["name"] for worker in client.workers()] == ["w1"]


@contextmanager
def _losing_answers(url: str, num_lost: int) -> Iterator[str]:
    """A proxy that passes requests on and cuts the first connections before their answer."""
    host, port = url.removeprefix("http://").split(":")

    def serve(listener: socket.socket) -> None:
        for number in range(num_lost + 1):
            connection, _ = listener.accept()
            with connection, socket.create_connection((host, int(port)), timeout=10) as upstream:
                connection.settimeout(10)
                upstream.sendall(_request_from(connection))
                # The first bytes of the answer are in, so the job is stored.
                answer = upstream.recv(1 << 16)
                if number == num_lost:
                    connection.sendall(answer + upstream.recv(1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def _request_from(connection: socket.socket) -> bytes:
    """One whole request that has a Content-Length; the proxy asks for no second one."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\nConnection: close\r\n\r\n" + body


def test_a_job_is_followed_to_its_end_over_as_many_streams_as_it_takes(
    serve: Serve,
    worker: str,  # noqa: ARG001
    sessions: SessionFactory,
) -> None:
    # A stream ends long before the job does, and gives signs of life meanwhile.
    url = str(serve(max_stream_s=0.3, stream_heartbeat_s=0.05).base_url)
    with Client(url, LOCAL_KEY) as client:
        job_id = client.submit(PROBLEMS, model=MODEL, deadline="1h")["id"]
        told = []
        for event in client.follow(job_id):
            told.append(event)
            if event["kind"] == "job.progress" and client.job(job_id)["state"] == "queued":
                if len(told) > 3:
                    client.cancel(job_id)
            elif event["kind"] == "job.cancelling":
                with transaction(sessions) as session:
                    finish_cancelled(session, job_id, now=datetime.now(UTC))
        stored = [event for event in told if event["id"] is not None]
        assert stored == list(client.events(job_id))
        assert stored[-1]["kind"] == "job.cancelled"
        assert list(client.follow(job_id, after=stored[0]["id"] or 0)) == stored[1:]
        assert list(client.follow(job_id, after=stored[-1]["id"] or 0)) == []


def test_an_unknown_job_is_not_followed(client: Client) -> None:
    with pytest.raises(SlacklineError) as caught:
        list(client.follow("job_" + "0" * 32))
    assert caught.value.code == "not_found"
