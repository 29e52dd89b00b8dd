"""Two tenants on one live API: one that has something of everything, and one that has nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy.orm import Session

from db import keys
from db.branches import insert_branches
from db.endings import finish_cancelled, finish_jobs
from db.models import Scope
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from db.submissions import SubmissionGrade, grade_submissions
from tests.api.live import client_of, job_body
from tests.api.openai.batch_files import chat_line, create, jsonl, upload, wait
from tests.factories import branch_row, claimed_batch, problem_answer, stored_worker

MARK = "zebra"
"""Stands in every text that the first tenant ever sent or got."""


@dataclass(frozen=True)
class TwoTenants:
    """The tenants' clients, and what the first one has.

    Attributes:
        ids: Ids of its objects by the name that they have in paths.
    """

    owner: httpx.Client
    other: httpx.Client
    owner_id: str
    ids: dict[str, list[str]]

    def leaks(self, text: str) -> list[str]:
        """What of the owner stands in a response."""
        known = [MARK, self.owner_id, *(each for found in self.ids.values() for each in found)]
        return [word for word in known if word in text]


def two_tenants(url: str, sessions: SessionFactory) -> TwoTenants:
    """Make the tenants and what the first one has."""
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        stored_worker(session, now=now + timedelta(minutes=30))
        owner_id, key_id, owner_secret = new_tenant(session, MARK, now)
        _, _, other_secret = new_tenant(session, "other", now)
    owner, other = client_of(url, owner_secret), client_of(url, other_secret)
    hook = {"url": f"https://{MARK}.example.test", "event_types": ["job.completed"]}
    webhook = owner.post("/v1/webhooks", json=hook | {"name": MARK}).json()["id"]
    ended, live = _submit(owner, "ended"), _submit(owner, "live")
    _answer(sessions, ended, 2, num_graded=2)
    (told,) = owner.get(f"/v1/webhooks/{webhook}/deliveries").json()["data"]
    refused = owner.post("/v1/jobs", json=job_body(4000, deadline="1s"))
    assert refused.status_code == 422, refused.text
    cancelled = _cancelled_batch(owner, sessions)
    lines = [chat_line(f"{MARK}-{number}") for number in range(2)]
    running = create(owner, *lines, metadata={"class": MARK}).json()
    running = wait(owner, running["id"], "in_progress")
    _answer(sessions, running["slackline"]["job_ids"][0], 1, num_graded=0)
    running = owner.get(f"/v1/batches/{running['id']}").json()
    assert owner.get(f"/v1/jobs/{ended}").json()["state"] == "completed"
    input_file = upload(owner, jsonl(chat_line(f"{MARK}-1"))).json()["id"]
    ids = {
        "job_id": [ended, live],
        "batch_id": [cancelled["id"], running["id"]],
        "file_id": [
            cancelled["error_file_id"],
            running["slackline"]["output_file_id"],
            input_file,
        ],
        "key_id": [key_id],
        "webhook_id": [webhook],
        "event_id": [told["event_id"]],
    }
    return TwoTenants(owner, other, owner_id, ids)


def problems() -> list[dict[str, Any]]:
    """Problems with the mark in every field."""
    return [
        {
            "id": f"{MARK}-{number}",
            "prompt": f"{MARK}: 1+1=",
            "reference_answer": f"{MARK}-2",
            "submissions": [{"id": f"{MARK}-ann", "answer": f"{MARK}-3"}],
        }
        for number in range(2)
    ]


def new_tenant(session: Session, name: str, now: datetime) -> tuple[str, str, str]:
    """A tenant with a key that may do everything: (tenant id, key id, secret)."""
    secret = keys.new_secret()
    tenant_id = keys.create_tenant(session, name=name, now=now)
    key_id = keys.insert_api_key(
        session,
        tenant_id=tenant_id,
        key_sha256=keys.hash_secret(secret),
        label=name,
        scopes=list(Scope),
        now=now,
    )
    return tenant_id, key_id, secret


def _submit(owner: httpx.Client, name: str) -> str:
    body = job_body(problems=problems(), name=f"{MARK}-{name}", family=MARK, stop=[MARK])
    response = owner.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"{MARK}-{name}"})
    assert response.status_code == 201, response.text
    job_id: str = response.json()["id"]
    return job_id


def _answer(sessions: SessionFactory, job_id: str, num_problems: int, num_graded: int) -> None:
    """Answer the next problems of a job, and grade submissions to them, as a worker would."""
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id, num_problems=num_problems, now=now)
        lease = {"batch_id": batch.id, "epoch": batch.epoch}
        branches = [
            branch_row(each.id, text=MARK, answer=MARK, queued_at=now, finished_at=now)
            for each in batch.problems
        ]
        assert insert_branches(session, **lease, rows=branches)
        grades = [SubmissionGrade(each, 0, MARK, "wrong", MARK, None) for each in range(num_graded)]
        assert grade_submissions(session, **lease, grades=grades, now=now)
        answers = [
            problem_answer(each.id, answer=MARK, grade_reason=MARK, finished_at=now)
            for each in batch.problems
        ]
        assert answer_problems(session, **lease, answers=answers)
        finish_jobs(session, now=now)


def _cancelled_batch(owner: httpx.Client, sessions: SessionFactory) -> dict[str, Any]:
    """A batch that was cancelled while it ran, so that it has an error file."""
    batch = create(owner, chat_line(f"{MARK}-1"), metadata={"class": MARK}).json()
    batch = wait(owner, batch["id"], "in_progress")
    assert owner.post(f"/v1/batches/{batch['id']}/cancel").is_success
    with transaction(sessions) as session:
        for job_id in batch["slackline"]["job_ids"]:
            assert finish_cancelled(session, job_id, now=datetime.now(UTC))
    return wait(owner, batch["id"], "cancelled")
