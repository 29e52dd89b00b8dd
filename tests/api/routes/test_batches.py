"""Batches over HTTP: validated in the background, made into jobs, each row of their contract."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import select, update

from db.models import Job, OpenaiBatch, Problem
from db.session import SessionFactory, transaction
from scheduler.core.branch_options import BranchOptions, PromptFormat
from tests.api.live import error_of, job_body
from tests.api.openai.batch_files import (
    CHAT,
    chat_line,
    create,
    errors_of,
    jsonl,
    run,
    upload,
    wait,
)
from tests.factories import MODEL


def test_lines_become_the_problems_of_one_job_that_is_due_at_the_end_of_the_window(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2"}],
        },
    ]
    ours = {"reference_answer": "3", "grading": {"method": "numeric", "absolute": 0.5}}
    batch = run(
        api,
        chat_line("one"),
        chat_line("two", messages=turns, slackline=ours),
        completion_window="90m",
        slackline={"max_branches": 4, "min_accuracy": 0.5, "grading": "exact"},
    )
    assert batch["status"] == "in_progress"
    assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    assert batch["expires_at"] - batch["created_at"] == 90 * 60
    with transaction(sessions) as session:
        job = session.scalars(select(Job)).one()
        one, two = session.scalars(select(Problem).order_by(Problem.position)).all()
    assert batch["slackline"]["job_ids"] == [job.id]
    assert (job.model, job.max_branches, job.min_accuracy) == (MODEL, 4, 0.5)
    assert int(job.deadline_at.timestamp()) == batch["expires_at"]
    assert (one.key, one.prompt, one.reference_answer) == ("one", "1+1=", None)
    assert one.messages == [{"role": "user", "content": "1+1="}]
    assert one.grading is not None
    assert one.grading["method"] == "exact"
    assert (two.prompt, two.reference_answer) == (
        "System: Be brief.\n\nUser: 1+2\n\nAssistant:",
        "3",
    )
    assert two.messages == [turns[0], {"role": "user", "content": "1+2"}]
    assert two.grading is not None
    assert (two.grading["method"], two.grading["absolute"]) == ("numeric", 0.5)
    assert api.get(f"/v1/jobs/{job.id}").json()["num_problems"] == 2


def test_lines_that_differ_in_sampling_or_deadline_share_a_job_with_their_kind(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    batch = run(
        api,
        chat_line("a", temperature=0.2),
        chat_line("b", temperature=0.2, slackline={"reference_answer": "2"}),
        chat_line("c", max_tokens=50, top_p=0.5),
        chat_line("d", max_completion_tokens=50, top_p=0.5),
        chat_line("e", slackline={"deadline": "10m", "max_branches": 2}),
        chat_line("f", slackline={"deadline": "3h"}),
        chat_line("g", seed=7, stop="Q:", top_k=40),
        chat_line("h", seed=7, stop=["Q:"], top_k=40, slackline={"answer_format": "boxed"}),
        slackline={"temperature": 1.0},
    )
    assert batch["status"] == "in_progress", batch
    with transaction(sessions) as session:
        jobs = session.scalars(select(Job).order_by(Job.id)).all()
        keys = {
            job.id: sorted(session.scalars(select(Problem.key).where(Problem.job_id == job.id)))
            for job in jobs
        }
    found = [
        (keys[j.id], j.temperature, j.top_p, j.max_tokens, j.max_branches,
         round((j.deadline_at.timestamp() - batch["created_at"]) / 60))
        for j in jobs
    ]  # fmt: skip
    assert found == [
        (["a", "b"], 0.2, 1.0, None, 16, 60),
        (["c", "d"], 1.0, 0.5, 50, 16, 60),
        (["e"], 1.0, 1.0, None, 2, 10),
        # The window ends before the line's own deadline.
        (["f"], 1.0, 1.0, None, 16, 60),
        (["g"], 1.0, 1.0, None, 16, 60),
        (["h"], 1.0, 1.0, None, 16, 60),
    ]
    for job, answer_format in zip(jobs[-2:], ("auto", "boxed"), strict=True):
        options = BranchOptions.from_dict(job.branch_options)
        assert (options.seed, options.stop, options.top_k) == (7, ("Q:",), 40)
        assert options.answer_format == answer_format


def test_every_bad_line_is_told_once_up_to_a_hundred(api: httpx.Client) -> None:
    bad = [
        [], "text", {}, {"custom_id": 7, "method": "POST", "url": CHAT, "body": {}},
        chat_line(""), chat_line("a\0b"), {**chat_line("m"), "method": "G\0ET"},
        {**chat_line("b"), "body": []}, chat_line("n", model="m\0"), chat_line("u", messages=[]),
    ]  # fmt: skip
    errors = errors_of(run(api, chat_line("good"), *bad))
    assert errors == [
        ("invalid_json_line", None, 2),
        ("invalid_json_line", None, 3),
        ("missing_required_parameter", "custom_id", 4),
        ("invalid_type", "custom_id", 5),
        ("invalid_value", "custom_id", 6),
        ("invalid_value", "custom_id", 7),
        ("invalid_value", "method", 8),
        ("invalid_type", "body", 9),
        ("invalid_request", "body.model", 10),
        ("invalid_request", "body.messages", 11),
    ]
    many = errors_of(run(api, *({} for _ in range(150))))
    assert [line for _, _, line in many] == list(range(1, 101))


def test_a_line_that_asks_for_what_cannot_be_is_refused_alone(api: httpx.Client) -> None:
    asked: list[dict[str, Any]] = [
        {"n": 2}, {"stop": [""]}, {"seed": -1}, {"logprobs": True}, {"frequency_penalty": 0.5},
        {"tools": [{"type": "function"}]}, {"response_format": {"type": "json_object"}},
        {"temperature": 3}, {"top_p": 0}, {"max_tokens": 0}, {"max_tokens": "many"},
        {"magic\0": 1}, {"slackline": 7}, {"slackline": {"branches": 7}},
        {"slackline": {"max_branches": 65}}, {"slackline": {"deadline": "soon"}},
        {"slackline": {"grading": "regex"}}, {"slackline": {"reference_answer": "\0"}},
        {"messages": "hello"}, {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "\0", "content": "a"}]},
        {"messages": [{"role": [], "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "a\0"}]}, {"messages": [7]},
        {"messages": [{"role": "user", "content": "1+1=" * 1000}]},
    ]  # fmt: skip
    lines = [chat_line(f"p{i}", **body) for i, body in enumerate(asked)]
    neutral: dict[str, Any] = {
        "n": 1,
        "stop": None,
        "logprobs": False,
        "user": "u",
        "seed": None,
        "tools": [],
    }
    batch = run(api, chat_line("good", **neutral), *lines)
    assert batch["status"] == "in_progress", batch
    assert batch["request_counts"]["failed"] == len(asked)
    error_file = api.get(f"/v1/files/{batch['slackline']['error_file_id']}/content")
    assert error_file.headers["x-incomplete"] == "true"
    for line, body in zip(error_file.text.splitlines(), asked, strict=True):
        response = httpx.Response(200, content=line).json()["response"]
        assert response["status_code"] == 400, body
        error = response["body"]["error"]
        assert error["type"] == "invalid_request_error"
        first = next(iter(body)).replace("\0", "")
        assert str(error["param"]).startswith(first), (body, error)


def test_options_in_metadata_count_unless_the_body_says_else(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    labels = {"slackline.max_branches": "3", "slackline.best_effort": "true", "own": "x"}
    batch = run(api, chat_line(), metadata=labels, slackline={"max_branches": 2})
    assert batch["metadata"] == labels
    with transaction(sessions) as session:
        assert session.scalars(select(Job.max_branches)).all() == [2]
    for labels in ({"slackline.max_branches": "few"}, {"slackline.color": "red"}):
        refused = create(api, chat_line(), metadata=labels)
        error = error_of(refused)
        assert (refused.status_code, error["param"]) == (400, f"metadata.{next(iter(labels))}")


def test_bad_requests_name_what_is_wrong(api: httpx.Client) -> None:
    file_id = upload(api, jsonl(chat_line())).json()["id"]
    good = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    pairs = {f"k{i}": "v" for i in range(17)}
    for change, code, param in (
        ({"input_file_id": None}, "invalid_type", "input_file_id"),
        ({"endpoint": "/v1/embeddings"}, "invalid_value", "endpoint"),
        ({"endpoint": 7}, "invalid_type", "endpoint"),
        ({"completion_window": "4.9s"}, "invalid_value", "completion_window"),
        ({"completion_window": "169h"}, "invalid_value", "completion_window"),
        ({"completion_window": "2030-01-01T00:00:00Z"}, "invalid_value", "completion_window"),
        ({"metadata": {"tags": ["a"]}}, "invalid_type", "metadata.tags"),
        ({"metadata": "x"}, "invalid_type", "metadata"),
        ({"metadata": pairs}, "invalid_value", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"metadata": {"k": "\0"}}, "invalid_value", "metadata.k"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "invalid_value",
         "output_expires_after.seconds"),
        ({"slackline": {"max_branches": 0}}, "invalid_value", "slackline.max_branches"),
        ({"slackline": {"color": "red"}}, "unknown_parameter", "slackline.color"),
        ({"deadline": "5s"}, "unknown_parameter", "deadline"),
    ):  # fmt: skip
        response = api.post("/v1/batches", json=good | change)
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (400, code, param), change
    del good["endpoint"]
    missing = error_of(api.post("/v1/batches", json=good))
    assert missing["message"] == "Missing required parameter: 'endpoint'."
    assert error_of(api.post("/v1/batches", json=[1]))["code"] == "invalid_type"
    for content in (b"", b"{", b'{"metadata": {"k": "\\ud800"}}', b'{"metadata": NaN}', b"\xff"):
        response = api.post("/v1/batches", content=content)
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json")
    assert api.get("/v1/batches").json()["data"] == []


def test_a_batch_without_a_worker_waits_and_can_be_cancelled_at_once(
    api_alone: httpx.Client, sessions: SessionFactory
) -> None:
    batch = create(api_alone, chat_line()).json()
    assert batch["status"] == "validating"
    cancelled = api_alone.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["cancelled_at"] is not None
    assert cancelled["output_file_id"] is None
    again = api_alone.post(f"/v1/batches/{batch['id']}/cancel")
    assert (again.status_code, again.json()) == (200, cancelled)
    with transaction(sessions) as session:
        assert session.scalars(select(Job.id)).all() == []


def test_a_window_that_ends_before_a_worker_comes_expires_the_batch(
    api_alone: httpx.Client, sessions: SessionFactory
) -> None:
    batch_id = create(api_alone, chat_line()).json()["id"]
    with transaction(sessions) as session:
        session.execute(update(OpenaiBatch).values(expires_at=datetime.now(UTC)))
    batch = wait(api_alone, batch_id)
    assert (batch["status"], batch["request_counts"]["total"]) == ("expired", 0)
    response = api_alone.post(f"/v1/batches/{batch_id}/cancel")
    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["message"] == "Cannot cancel a batch with status 'expired'."


def test_a_validation_that_was_left_behind_is_taken_up_when_its_claim_runs_out(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    # Claimed by a process that is gone: this one must wait, and then does the work.
    file_id = upload(api, jsonl(chat_line())).json()["id"]
    with transaction(sessions) as session:
        session.connection().exec_driver_sql("LOCK TABLE openai_batch_jobs IN EXCLUSIVE MODE")
        batch_id = create(api, input_file_id=file_id).json()["id"]
        ahead = datetime.now(UTC) + timedelta(seconds=1.5)
        claim = {"claimed_until": ahead, "epoch": 7}
    with transaction(sessions) as session:
        is_open = update(OpenaiBatch).where(OpenaiBatch.state == "validating").values(**claim)
        was_open = session.connection().execute(is_open).rowcount
    batch = wait(api, batch_id, "in_progress")
    assert batch["status"] == "in_progress"
    if was_open:
        assert datetime.now(UTC) >= ahead
    with transaction(sessions) as session:
        assert len(session.scalars(select(Job.id)).all()) == 1


def test_a_batch_is_its_owners_alone(api: httpx.Client, stranger: httpx.Client) -> None:
    batch = run(api, chat_line())
    for method, path in (
        ("GET", f"/v1/batches/{batch['id']}"),
        ("POST", f"/v1/batches/{batch['id']}/cancel"),
        ("GET", "/v1/batches/batch_%00"),
    ):
        response = stranger.request(method, path)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (404, None)
        assert error["message"].startswith("No batch found with id 'batch_")
    output_id = batch["slackline"]["output_file_id"] or "file-none"
    assert stranger.get(f"/v1/files/{output_id}/content").status_code == 404
    assert stranger.get("/v1/batches").json()["data"] == []
    assert stranger.get("/v1/batches", params={"after": batch["id"]}).status_code == 400
    theirs = create(stranger, input_file_id=batch["input_file_id"]).json()
    assert errors_of(wait(stranger, theirs["id"])) == [("invalid_request", "file_id", None)]
    assert api.get(f"/v1/batches/{batch['id']}").json()["status"] == "in_progress"


def test_an_idempotency_key_makes_one_batch(api: httpx.Client, stranger: httpx.Client) -> None:
    file_id = upload(api, jsonl(chat_line())).json()["id"]
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "1h"}
    key = {"Idempotency-Key": "k"}
    first = api.post("/v1/batches", json=body, headers=key)
    again = api.post("/v1/batches", json=body, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = api.post("/v1/batches", json=body | {"completion_window": "2h"}, headers=key)
    assert (other.status_code, error_of(other)["code"]) == (409, "idempotency_key_reused")
    theirs = stranger.post("/v1/batches", json=body, headers=key)
    assert theirs.json()["id"] != first.json()["id"]


def test_a_window_that_cannot_be_kept_is_refused_with_one_that_can(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    lines = [chat_line(f"p{i}", max_tokens=400) for i in range(2000)]
    response = create(api, *lines, completion_window="5s")
    error = error_of(response)
    assert (response.status_code, error["code"]) == (429, "deadline_infeasible")
    assert (error["type"], error["param"]) == ("rate_limit_error", "completion_window")
    assert error["earliest_finish_s"] > 5
    # Idle workers could not do it either, so it is no use to come again.
    assert response.headers["x-should-retry"] == "false"
    assert 1 <= int(response.headers["retry-after"]) <= 120
    assert len(api.get("/v1/refusals").json()["data"]) == 1
    assert api.get("/v1/batches").json()["data"] == []
    effort = run(api, *lines, completion_window="5s", slackline={"best_effort": True})
    assert effort["status"] == "in_progress"
    with transaction(sessions) as session:
        assert session.scalars(select(Job.is_promised)).all() == [False]


def test_the_kinds_of_a_batch_are_promised_no_capacity_twice(
    api: httpx.Client, stored_rows: Callable[[], dict[str, int]]
) -> None:
    def lines(temperature: float) -> list[dict[str, Any]]:
        name = f"{temperature}-{{}}".format
        body = {"temperature": temperature, "max_tokens": 400}
        return [chat_line(name(number), **body) for number in range(1000)]

    late = job_body(1000, deadline="1s", max_tokens=400)
    earliest_s = error_of(api.post("/v1/jobs", json=late))["earliest_finish_s"]
    assert earliest_s > 6
    # So short that the forecast at creation, which knows no lines, lets it pass.
    batch = {"completion_window": f"{1.4 * earliest_s:.0f}s", "slackline": {"max_tokens": 1}}

    both = run(api, *lines(0.5), *lines(0.7), **batch)

    assert errors_of(both) == [("deadline_infeasible", "completion_window", None)]
    assert stored_rows()["problems"] == 0
    assert run(api, *lines(0.5), **batch)["status"] == "in_progress"


def test_a_file_for_something_else_fails_its_batch(api: httpx.Client) -> None:
    file_id = upload(api, jsonl(chat_line()), purpose="user_data").json()["id"]
    assert errors_of(run(api, input_file_id=file_id)) == [("invalid_request", "file_id", None)]


def test_a_text_completion_is_given_its_prompt_as_it_is(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    body = {"model": MODEL, "prompt": ["1+1="]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
    tokens = {**line, "custom_id": "b", "body": body | {"prompt": [1, 2]}}
    batch = run(api, line, tokens, endpoint="/v1/completions")
    assert batch["request_counts"] == {"total": 2, "completed": 0, "failed": 1}
    with transaction(sessions) as session:
        problem = session.scalars(select(Problem)).one()
        job = session.scalars(select(Job)).one()
    assert (problem.prompt, problem.messages) == ("1+1=", None)
    assert job.branch_options["prompt_format"] == PromptFormat.PLAIN
