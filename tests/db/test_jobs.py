"""Jobs: submission, plans, listing, and how they end."""

from dataclasses import asdict

from sqlalchemy import delete, select

from db.endings import cancelling_jobs, finish_cancelled, finish_jobs
from db.events import list_events
from db.jobs import get_job, insert_job, list_jobs, request_cancel
from db.keys import LOCAL_TENANT, create_tenant, ensure_local_tenant
from db.models import Job, Problem
from db.plans import store_plan
from db.problems import answer_problems
from db.progress import JobProgress, job_progress, jobs_progress
from db.session import SessionFactory
from scheduler.core.decisions import Admitted
from scheduler.core.states import ProblemState
from tests.factories import (
    NOW,
    after,
    claimed_batch,
    forecast,
    new_job,
    plan,
    problem_answer,
    stored_job,
)


def test_a_job_keeps_the_verdict_and_forecast_of_its_admission(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
        job = new_job(max_tokens=200, min_accuracy=0.9)
        insert_job(session, job, Admitted(plan(num_branches=6), forecast(), degraded=True))
        stored = get_job(session, LOCAL_TENANT, job.id)
    assert stored is not None
    assert (stored.state, stored.verdict) == ("queued", "accepted_degraded")
    assert (stored.admitted_finish_at, stored.admitted_finish_p95_at) == (after(10), after(14))
    assert (stored.admitted_accuracy, stored.predicted_accuracy) == (0.75, 0.75)
    assert (stored.num_branches, stored.plan_max_tokens, stored.wave_size) == (6, 128, 8)
    assert (stored.max_tokens, stored.min_accuracy) == (200, 0.9)


def test_a_tenant_does_not_see_jobs_of_another(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        other = create_tenant(session, name="other", now=NOW)
        assert get_job(session, other, job_id) is None
        assert list_jobs(session, other, limit=10) == []
        assert not request_cancel(session, other, job_id, now=NOW)


def test_jobs_are_paged_newest_first(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ids = [stored_job(session, created_at=after(second)) for second in (0, 1, 1, 2)]
        newest_first = list(reversed(ids))
        pages: list[str] = []
        cursor = None
        while page := list_jobs(session, LOCAL_TENANT, limit=2, after=cursor):
            pages += [job.id for job in page]
            cursor = pages[-1]
    assert pages == newest_first


def test_an_unknown_cursor_gives_an_empty_page(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_job(session)
        assert list_jobs(session, LOCAL_TENANT, limit=2, after="job_none") == []


def test_progress_counts_problems_by_state(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=5)
        other_id = stored_job(session, num_problems=2)
        claimed = claimed_batch(session, job_id, num_problems=2)
        answer = problem_answer(claimed.problems[0].id)
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=[answer])
        progress = jobs_progress(session, [job_id, other_id])
        assert progress[job_id] == job_progress(session, job_id)
    one = progress[job_id]
    assert (one.pending, one.running, one.answered) == (3, 1, 1)
    assert (one.accuracy, progress[other_id].accuracy) == (1.0, None)
    assert progress[other_id].pending == 2


def test_a_plan_is_stored_with_its_forecast_and_recorded_when_it_changes(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        assert store_plan(session, job_id, plan(), forecast(finish_p50_s=20.0), now=after(5))
        assert session.get_one(Job, job_id).predicted_finish_at == after(25)
        assert [event.kind for event in list_events(session, job_id)] == ["job.queued"]
        assert store_plan(session, job_id, plan(num_branches=2), forecast(), now=after(6))
        recorded = list_events(session, job_id)[-1]
    assert (recorded.kind, recorded.at) == ("plan.stored", after(6))
    assert recorded.data["num_branches"] == 2
    assert recorded.data["accuracy"] == 0.75


def test_an_ended_job_gets_no_plan(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        assert not store_plan(session, job_id, plan(num_branches=1), forecast(), now=NOW)
        assert session.get_one(Job, job_id).num_branches == 4


def _finish(sessions: SessionFactory, outcomes: list[ProblemState]) -> Job:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=len(outcomes))
        claimed = claimed_batch(session, job_id)
        answers = [
            problem_answer(problem.id, finished_at=after(number + 1))
            if outcome is ProblemState.ANSWERED
            else problem_answer(
                problem.id, state=outcome, answer=None, vote_share=None, error="broken"
            )
            for number, (problem, outcome) in enumerate(
                zip(claimed.problems, outcomes, strict=True)
            )
        ]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        assert finish_jobs(session, now=after(30)) == [job_id]
        assert finish_jobs(session, now=after(31)) == []
        return session.get_one(Job, job_id)


def test_a_job_ends_when_its_last_problem_did_however_late_the_tick(
    sessions: SessionFactory,
) -> None:
    job = _finish(sessions, [ProblemState.ANSWERED] * 3)
    assert (job.state, job.finished_at) == ("completed", after(3))


def test_some_failed_problems_do_not_fail_the_job(sessions: SessionFactory) -> None:
    job = _finish(sessions, [ProblemState.ANSWERED, ProblemState.FAILED])
    assert (job.state, job.error) == ("completed", None)


def test_a_job_whose_problems_all_failed_has_failed(sessions: SessionFactory) -> None:
    job = _finish(sessions, [ProblemState.FAILED, ProblemState.FAILED])
    assert (job.state, job.error) == ("failed", "every problem failed")


def test_a_job_with_an_open_problem_goes_on(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=2)
        claimed = claimed_batch(session, job_id)
        answers = [problem_answer(claimed.problems[0].id)]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        assert finish_jobs(session, now=after(5)) == []
        assert session.scalars(select(Problem).where(Problem.state == "running")).one()


def test_a_cancel_is_asked_for_once(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        assert request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        assert not request_cancel(session, LOCAL_TENANT, job_id, now=NOW)
        assert cancelling_jobs(session) == [job_id]


def test_the_counts_of_a_job_that_ended_are_kept_with_it(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        answered, cancelled = (stored_job(session, num_problems=2) for _ in range(2))
        claimed = claimed_batch(session, answered, num_problems=2)
        answers = [problem_answer(problem.id) for problem in claimed.problems]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        counted = job_progress(session, answered)
        assert finish_jobs(session, now=after(9)) == [answered]
        assert request_cancel(session, LOCAL_TENANT, cancelled, now=after(9))
        assert finish_cancelled(session, cancelled, now=after(10))
    with sessions.begin() as session:
        assert session.get_one(Job, answered).final_progress == asdict(counted)
        session.execute(delete(Problem))
        assert jobs_progress(session, [answered, cancelled]) == {
            answered: counted,
            cancelled: JobProgress(cancelled=2),
        }
