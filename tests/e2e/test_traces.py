"""One trace from a client's request to the last branch, through every process."""

import secrets
from collections import Counter

import httpx

from tests.collector import Collector, ReceivedSpan
from tests.replay_files import MODEL, problem_set
from tests.stack import Stack

NUM_PROBLEMS = 3


def submit(stack: Stack, trace_id: str, caller: str, *, sampled: bool) -> str:
    """Submit a job as part of a caller's trace; returns its id."""
    running = stack.running
    response = httpx.post(
        f"{running.api_url}/v1/jobs",
        headers={
            "Authorization": f"Bearer {running.api_key}",
            "traceparent": f"00-{trace_id}-{caller}-{'01' if sampled else '00'}",
        },
        json={"model": MODEL, "deadline": "40s", "problems": problem_set(NUM_PROBLEMS)}
        | {"deduplicate": False},
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def is_whole(spans: list[ReceivedSpan]) -> bool:
    """Whether the job's span came, and those of all batches that were planned for it."""
    planned = sum(span.attributes.get("slackline.num_batches", 0) for span in spans)
    names = Counter(span.name for span in spans)
    return names["job"] == 1 and 0 < planned == names["batch"]


def test_a_trace_leads_from_the_caller_to_every_branch(stack: Stack, collector: Collector) -> None:
    unsampled_id = secrets.token_hex(16)
    unsampled = submit(stack, unsampled_id, secrets.token_hex(8), sampled=False)
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    job_id = submit(stack, trace_id, caller, sampled=True)
    with stack.client() as client:
        client.wait(unsampled)
        client.wait(job_id)
        spans = collector.wait_for(trace_id, is_whole)
        results = {result["id"]: result for result in client.results(job_id, branches=True)}

    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)

    def parent_of(span: ReceivedSpan) -> str | None:
        parent = by_id.get(span.parent_id)
        return None if parent is None else parent.name

    def all_named(name: str) -> list[ReceivedSpan]:
        return [span for span in spans if span.name == name]

    (request,) = all_named("POST /v1/jobs")
    assert (request.service, request.parent_id) == ("slackline-api", caller)
    (admit,) = all_named("admit")
    assert parent_of(admit) == request.name
    assert admit.attributes["slackline.verdict"] == "accepted"
    (job,) = all_named("job")
    assert (job.service, parent_of(job)) == ("slackline-scheduler", request.name)
    assert job.attributes["slackline.job.id"] == job_id
    assert job.attributes["slackline.state"] == "completed"
    assert all_named("plan")
    assert {parent_of(plan) for plan in all_named("plan")} == {"job"}
    batches = all_named("batch")
    assert {(span.service, parent_of(span)) for span in batches} == {("slackline-worker", "job")}
    assert Counter(map(parent_of, all_named("claim"))) == {"batch": len(batches)}
    problems = all_named("problem")
    assert {parent_of(problem) for problem in problems} == {"batch"}
    assert {span.attributes["slackline.problem.key"] for span in problems} == set(results)
    assert len(problems) == NUM_PROBLEMS
    # Whatever the store has of branches, the trace has.
    stored = {key: len(result["branches"] or ()) for key, result in results.items()}
    branches = all_named("branch")
    keys = [by_id[span.parent_id].attributes["slackline.problem.key"] for span in branches]
    assert Counter(keys) == Counter(stored)
    finished = [span for span in branches if span.attributes["slackline.finish_reason"] == "stop"]
    assert finished
    for span in finished:
        assert span.events == ("prefill", "decode")
        assert span.attributes["slackline.completion_tokens"] > 0
        assert span.attributes["slackline.draft_tokens"] >= 0
    for span in spans:
        assert span.start_ns <= span.end_ns, span
        assert not span.is_error, span
    assert collector.trace(unsampled_id) == []
