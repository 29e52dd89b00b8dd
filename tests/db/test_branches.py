"""Branches: each counts once, and only its lease holder writes it."""

from sqlalchemy import select

from db.batches import lose_batches
from db.branches import insert_branches
from db.models import Branch
from db.session import SessionFactory
from tests.factories import after, branch_row, claimed_batch, stored_job, unfinished_row


def _stored(sessions: SessionFactory) -> list[tuple[int, str, str | None, int]]:
    with sessions() as session:
        rows = session.scalars(select(Branch).order_by(Branch.branch_index)).all()
    return [(row.branch_index, row.finish_reason, row.answer, row.batch_id) for row in rows]


def test_a_branch_row_is_the_whole_trace(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        claimed = claimed_batch(session, job_id)
        row = branch_row(claimed.problems[0].id, 3)
        assert insert_branches(session, batch_id=claimed.id, epoch=1, rows=[row])
        stored = session.scalars(select(Branch)).one()
    assert (stored.job_id, stored.worker_name, stored.branch_index) == (job_id, "w1", 3)
    assert (stored.queue_time_s, stored.ttft_s, stored.decode_time_s) == (0.1, 0.2, 0.3)
    assert (stored.started_at, stored.finished_at) == (after(0.1), after(0.5))
    assert (stored.drafted_by_position, stored.accepted_by_position) == ([15, 15], [10, 5])


def test_a_finished_branch_is_never_replaced(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        problem_id = claimed.problems[0].id
        lease = {"batch_id": claimed.id, "epoch": 1}
        insert_branches(session, rows=[branch_row(problem_id, 0)], **lease)
        later = [branch_row(problem_id, 0, answer="8"), unfinished_row(problem_id, 0)]
        for row in later:
            assert insert_branches(session, rows=[row], **lease)
    assert _stored(sessions) == [(0, "stop", "7", claimed.id)]


def test_an_aborted_branch_gives_its_index_to_the_next_run(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1)
        first = claimed_batch(session, job_id)
        problem_id = first.problems[0].id
        rows = [unfinished_row(problem_id, 0), unfinished_row(problem_id, 1, finish_reason="error")]
        insert_branches(session, batch_id=first.id, epoch=1, rows=rows)
        lose_batches(session, [first.id], now=after(1))
        second = claimed_batch(session, job_id)
        assert second.problems[0].finished == ()
        rows = [branch_row(problem_id, 0), branch_row(problem_id, 1)]
        assert insert_branches(session, batch_id=second.id, epoch=1, rows=rows)
    assert _stored(sessions) == [(0, "stop", "7", second.id), (1, "stop", "7", second.id)]


def test_characters_that_postgres_cannot_store_are_left_out(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        row = branch_row(claimed.problems[0].id, text="3\0+4", answer="\x007")
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=[row])
        stored = session.scalars(select(Branch)).one()
    assert (stored.text, stored.answer) == ("3+4", "7")


def test_no_rows_still_tell_whether_the_lease_is_held(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session))
        assert insert_branches(session, batch_id=claimed.id, epoch=1, rows=[])
        assert not insert_branches(session, batch_id=claimed.id, epoch=9, rows=[])
