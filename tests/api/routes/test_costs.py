"""The cost of a job over HTTP."""

from datetime import UTC, datetime

import httpx

from db.branches import insert_branches
from db.session import SessionFactory, transaction
from tests.api.live import error_of, job_body
from tests.factories import branch_row, claimed_batch, unfinished_row


def test_parts_of_a_jobs_cost_are_told_to_its_tenant_only(
    api: httpx.Client, stranger: httpx.Client, sessions: SessionFactory
) -> None:
    job_id = api.post("/v1/jobs", json=job_body(num_problems=1)).json()["id"]
    before = api.get(f"/v1/jobs/{job_id}/cost").json()
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id, now=now)
        problem_id = batch.problems[0].id
        # 31 tokens and 15 rejected drafts in 0.4 seconds each.
        rows = [branch_row(problem_id, 0), unfinished_row(problem_id, 1)]
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=rows)

    cost = api.get(f"/v1/jobs/{job_id}/cost").json()

    assert before["num_branches"] == before["tokens"]["total"] == 0
    assert (cost["object"], cost["job_id"], cost["num_branches"]) == ("job_cost", job_id, 2)
    assert cost["tokens"] == {
        "total": 92, "useful": 31, "cancelled": 46, "rejected_drafts": 15, "retried": 0,
    }  # fmt: skip
    seconds = {part: round(value, 6) for part, value in cost["row_seconds"].items()}
    assert seconds == {
        "total": 0.8,
        "useful": round(0.4 * 31 / 46, 6),
        "cancelled": 0.4,
        "rejected_drafts": round(0.4 * 15 / 46, 6),
        "retried": 0.0,
    }
    assert (cost["prompt_tokens"], cost["num_lost_batches"]) == (20, 0)
    refused = stranger.get(f"/v1/jobs/{job_id}/cost")
    assert (refused.status_code, error_of(refused)["code"]) == (404, "not_found")
