"""What the clerk does step by step, on a store that no server looks at."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from api.openai import closing, intake
from api.openai.closing import Closing
from api.openai.intake import Intake
from api.openai.output import failed_lines
from api.openai.validation import check_batch
from api.settings import ApiSettings
from db import keys
from db.branches import insert_branches
from db.deadlines import expire_jobs
from db.files import NewFile, delete_file, store_file
from db.models import Job, OpenaiBatch, Problem
from db.openai_batches import NewOpenaiBatch, insert_batch_job, insert_openai_batch
from db.openai_lines import NewRefusedLine, insert_refused_lines
from db.session import SessionFactory, transaction
from tests.api.openai.batch_files import CHAT, chat_line, jsonl
from tests.factories import branch_row, claimed_batch, stored_job

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def stored_batch(sessions: SessionFactory, name: str, **values: Any) -> OpenaiBatch:
    """A batch of the local tenant that is due in an hour."""
    batch = NewOpenaiBatch(
        id=f"batch_{name}",
        tenant_id=keys.LOCAL_TENANT,
        idempotency_key=None,
        request_sha256="",
        endpoint=CHAT,
        input_file_id="file-input",
        completion_window="1h",
        labels=None,
        options={},
        output_expires_after_s=3600,
        output_file_id=f"file-{name}-output",
        error_file_id=f"file-{name}-error",
        created_at=NOW,
        expires_at=NOW + HOUR,
    )
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=NOW)
        insert_openai_batch(session, batch)
        if values:
            session.execute(update(OpenaiBatch).where(OpenaiBatch.id == batch.id).values(**values))
    with transaction(sessions) as session:
        return session.get_one(OpenaiBatch, batch.id)


def store(sessions: SessionFactory, file_id: str, content: bytes) -> None:
    """Store a file of the local tenant."""
    file = NewFile(file_id, keys.LOCAL_TENANT, "batch", "set.jsonl", NOW, None)
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=NOW)
        store_file(session, file, [content])


def states(sessions: SessionFactory) -> dict[str, str]:
    """State of each batch."""
    with transaction(sessions) as session:
        return {row.id: row.state for row in session.scalars(select(OpenaiBatch))}


def test_a_batch_whose_files_cannot_be_written_does_not_hold_up_others(
    sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the steps take, the first batch stays put off.
    monkeypatch.setattr(closing, "utc_now", lambda: NOW)
    for name, due_at in (("first", NOW + HOUR), ("second", NOW + 2 * HOUR)):
        ended = {"state": "finalizing", "finalizing_at": NOW, "expires_at": due_at}
        batch = stored_batch(sessions, name, num_lines=1, **ended)
        with transaction(sessions) as session:
            insert_refused_lines(session, batch.id, [NewRefusedLine(0, "a", 400, {})])
    store(sessions, "file-first-error", b"in the way")
    step = Closing(sessions).step

    with pytest.raises(IntegrityError):
        step()
    assert step() is True
    assert step() is False
    assert states(sessions) == {"batch_first": "finalizing", "batch_second": "completed"}

    with transaction(sessions) as session:
        delete_file(session, keys.LOCAL_TENANT, "file-first-error", now=NOW)
        session.execute(update(OpenaiBatch).values(claimed_until=NOW))
    assert step() is True
    assert states(sessions)["batch_first"] == "completed"


def test_a_file_that_is_deleted_while_it_is_read_fails_its_batch(
    sessions: SessionFactory, worker: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker
    store(sessions, "file-input", jsonl(chat_line("a"), chat_line("b")))
    batch = stored_batch(sessions, "read")

    def check_and_delete(*args: Any) -> Any:
        checked = check_batch(*args)
        with transaction(sessions) as session:
            assert delete_file(session, keys.LOCAL_TENANT, "file-input", now=NOW)
        return checked

    monkeypatch.setattr(intake, "check_batch", check_and_delete)
    settings = ApiSettings.model_validate({"database_url": database_url})
    assert Intake(sessions, settings).step() is True

    with transaction(sessions) as session:
        failed = session.get_one(OpenaiBatch, batch.id)
        assert failed.state == "failed"
        assert failed.errors is not None
        assert failed.errors[0]["message"].startswith("Cannot find file file-input")
        assert session.scalars(select(Job.id)).all() == []
        assert session.scalars(select(Problem.id)).all() == []


def failures(sessions: SessionFactory, batch: OpenaiBatch) -> Iterator[dict[str, Any]]:
    """The lines of the error file."""
    return map(orjson.loads, failed_lines(sessions, batch))


def test_a_line_that_expires_is_told_so_though_a_branch_had_failed(
    sessions: SessionFactory,
) -> None:
    batch = stored_batch(sessions, "late")
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        row = branch_row(claimed.problems[0].id)
        broken = replace(
            row,
            finish_reason="error",
            answer=None,
            vote_class=None,
            is_correct=None,
            error="broken",
        )
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=[broken])
        insert_batch_job(session, batch.id, job_id)
        due_at = session.get_one(Job, job_id).deadline_at
        assert expire_jobs(session, [job_id], now=due_at) == [job_id]

    (line,) = failures(sessions, batch)
    assert (line["response"], line["error"]["code"]) == (None, "batch_expired")
