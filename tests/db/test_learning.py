"""What is learned from, and where it is kept."""

from dataclasses import replace

from sqlalchemy import update
from sqlalchemy.orm import Session

from db.branches import BranchRow, insert_branches
from db.learning import (
    Family,
    families,
    finished_since,
    given_profiles,
    latest_problems,
    learned_profiles,
    store_profile,
)
from db.models import LearnedProfile
from db.problems import answer_problems
from db.session import SessionFactory
from db.snapshot import read_snapshot
from scheduler.core.recorded import RecordedProblem
from tests.factories import (
    MODEL,
    NOW,
    after,
    answer_profile,
    branch_row,
    claimed_batch,
    problem_answer,
    stored_job,
    stored_worker,
    unfinished_row,
    votes,
)

ALGEBRA = Family(MODEL, "algebra")


def ended_problem(
    session: Session, rows: list[BranchRow], *, at_s: float = 1.0, family: str = "algebra"
) -> str:
    """A job of one problem that was answered with these branches; returns the job's id."""
    job_id = stored_job(session, num_problems=1, family=family, created_at=after(at_s))
    claimed = claimed_batch(session, job_id)
    problem_id = claimed.problems[0].id
    rows = [replace(row, problem_id=problem_id) for row in rows]
    assert insert_branches(session, batch_id=claimed.id, epoch=claimed.epoch, rows=rows)
    answer = problem_answer(problem_id, finished_at=after(at_s))
    assert answer_problems(session, batch_id=claimed.id, epoch=claimed.epoch, answers=[answer])
    return job_id


def latest(session: Session, limit: int = 10) -> list[RecordedProblem]:
    return latest_problems(session, ALGEBRA, limit)


def test_a_graded_problem_has_its_right_answers_in_class_zero(sessions: SessionFactory) -> None:
    rows = votes(0, [0, 1, None, 1, 2])
    rows = [replace(row, is_correct=row.vote_class == 1 if row.answer else None) for row in rows]
    with sessions.begin() as session:
        ended_problem(session, rows)
        (problem,) = latest(session)
    assert problem.classes == (1, 0, None, 0, 3)
    assert problem.is_labeled
    assert problem.finished == (True,) * 5
    assert problem.tokens == (31,) * 5


def test_a_problem_without_a_reference_is_not_labeled(sessions: SessionFactory) -> None:
    rows = [replace(row, is_correct=None) for row in votes(0, [0, 0, 1])]
    with sessions.begin() as session:
        ended_problem(session, rows)
        (problem,) = latest(session)
    assert problem.classes == (1, 1, 2)
    assert not problem.is_labeled


def test_wrong_answers_tell_nothing_while_another_grade_is_open(sessions: SessionFactory) -> None:
    rows = votes(0, [1, 2])
    with sessions.begin() as session:
        ended_problem(session, [rows[0], replace(rows[1], is_correct=None)])
        (problem,) = latest(session)
    assert not problem.is_labeled


def test_aborted_and_capped_branches_are_cut_and_failed_ones_left_out(
    sessions: SessionFactory,
) -> None:
    rows = [
        branch_row(0, 0),
        unfinished_row(0, 1, completion_tokens=500),
        branch_row(0, 2, finish_reason="length", completion_tokens=900),
        unfinished_row(0, 3, finish_reason="error", error="died"),
        unfinished_row(0, 4, completion_tokens=0),
    ]
    with sessions.begin() as session:
        ended_problem(session, rows)
        (problem,) = latest(session)
    assert problem.tokens == (31, 500, 900)
    assert problem.finished == (True, False, False)
    assert problem.votes == (0, None, None)


def test_the_latest_problems_of_the_family_come_oldest_first(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        for second in (3, 1, 4, 2):
            ended_problem(session, [branch_row(0, completion_tokens=second)], at_s=second)
        ended_problem(session, [branch_row(0, completion_tokens=9)], at_s=9, family="other")
        stored_job(session, family="algebra")
        assert [problem.tokens for problem in latest(session, limit=3)] == [(2,), (3,), (4,)]
        assert latest_problems(session, Family("another-model", "algebra"), 9) == []


def test_news_are_counted_by_family_in_problems(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        for second in (1, 5, 6):
            rows = [branch_row(0, index, finished_at=after(second)) for index in range(3)]
            ended_problem(session, rows, at_s=second)
        ended_problem(session, [branch_row(0, finished_at=after(7))], at_s=7, family="other")
        assert finished_since(session, after(2)) == {ALGEBRA: 2, Family(MODEL, "other"): 1}
        assert families(session) == [ALGEBRA, Family(MODEL, "other")]


def test_a_stored_profile_is_read_back_and_replaced(sessions: SessionFactory) -> None:
    first = answer_profile(family="algebra", num_problems_seen=3, num_branches_seen=24)
    second = replace(first, num_problems_seen=30, num_branches_seen=240)
    with sessions.begin() as session:
        assert learned_profiles(session) == ()
        store_profile(session, first, now=NOW)
        assert learned_profiles(session) == (first,)
        store_profile(session, second, now=after(1))
        store_profile(session, replace(first, family="zeta"), now=after(1))
    with sessions.begin() as session:
        assert learned_profiles(session) == (second, replace(first, family="zeta"))
        row = session.get_one(LearnedProfile, (MODEL, "algebra"))
        assert (row.num_problems, row.num_branches, row.fitted_at) == (30, 240, after(1))


def test_a_profile_is_parsed_once_however_often_it_is_read(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        store_profile(session, answer_profile(num_problems_seen=7), now=NOW)
        assert learned_profiles(session)[0] is learned_profiles(session)[0]


def test_a_profile_of_another_release_is_left_out(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        store_profile(session, answer_profile(num_problems_seen=8), now=NOW)
        session.execute(update(LearnedProfile).values(profile={"old": 1}, sha256="of another"))
        assert learned_profiles(session) == ()


def test_workers_bring_profiles_of_their_model(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_worker(session)
        assert given_profiles(session, MODEL) == [answer_profile()]
        assert given_profiles(session, "another") == []


def test_the_snapshot_says_what_is_known_of_the_family_of_each_job(
    sessions: SessionFactory,
) -> None:
    profile = answer_profile(family="algebra", num_problems_seen=40, num_branches_seen=320)
    with sessions.begin() as session:
        stored_job(session, family="algebra")
        stored_job(session, family="geometry")
        claimed_batch(session, stored_job(session, family="algebra"))
        before = read_snapshot(session, NOW)
        assert [job.answers for job in before.jobs] == [None, None, None]
        store_profile(session, profile, now=NOW)
        snapshot = read_snapshot(session, NOW)
    algebra, geometry, _ = snapshot.jobs
    assert algebra.answers == profile
    assert geometry.answers is not None
    assert geometry.answers.num_problems_seen == 0
    assert f"{MODEL} on algebra" in geometry.answers.source
    assert snapshot.batches[0].answers == profile
    assert snapshot.answers_of(MODEL, "algebra") == profile


def test_a_claimed_batch_brings_what_was_learned_of_its_family(sessions: SessionFactory) -> None:
    profile = answer_profile(family="algebra", num_problems_seen=41, num_branches_seen=330)
    with sessions.begin() as session:
        assert claimed_batch(session, stored_job(session, family="algebra")).answers is None
        store_profile(session, profile, now=NOW)
        assert claimed_batch(session, stored_job(session, family="algebra")).answers == profile
