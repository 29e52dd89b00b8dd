"""Results on their way to the store."""

import threading
from datetime import UTC, datetime

from db.models import Job, Problem
from db.session import SessionFactory, transaction
from tests.factories import claimed_batch, problem_answer, stored_job
from worker.outbox import Outbox
from worker.spans import BatchSpans


def test_an_answer_that_waited_for_the_store_is_dated_when_it_is_stored(
    sessions: SessionFactory,
) -> None:
    with transaction(sessions) as session:
        batch = claimed_batch(session, stored_job(session, num_problems=1))
    outbox = Outbox(batch, sessions, threading.Event(), BatchSpans(batch))
    answer = problem_answer(batch.problems[0].id)
    outbox.answers.append(answer)
    flushed_at = datetime.now(UTC)

    assert outbox.flush()

    with transaction(sessions) as session:
        problem = session.get_one(Problem, answer.problem_id)
        deadline_at = session.get_one(Job, batch.job_id).deadline_at
    assert problem.finished_at is not None
    assert answer.finished_at < deadline_at < flushed_at <= problem.finished_at
