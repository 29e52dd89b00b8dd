"""From traces in the store to a profile that the next decision uses."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from db.branches import insert_branches
from db.learning import Family, learned_profiles
from db.models import Branch, LearnedProfile
from db.problems import answer_problems
from db.session import SessionFactory
from db.snapshot import read_snapshot
from scheduler import learn
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.fit_answers import fit_answers
from scheduler.learn import Learner
from tests.factories import (
    MODEL,
    NOW,
    after,
    branch_row,
    claimed_batch,
    problem_answer,
    stored_job,
    stored_worker,
)


def solve(
    sessions: SessionFactory, family: str, *, num_problems: int, right: float, mean_tokens: float
) -> None:
    """A job whose problems were answered by 8 branches each, right as often as said."""
    rng = np.random.default_rng(num_problems)
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=num_problems, family=family)
        claimed = claimed_batch(session, job_id, num_problems=num_problems)
        rows, answers = [], []
        for problem in claimed.problems:
            for index in range(8):
                is_right = bool(rng.random() < right)
                rows.append(
                    branch_row(
                        problem.id,
                        index,
                        answer="7" if is_right else f"w{index}",
                        vote_class=0 if is_right else index + 1,
                        is_correct=is_right,
                        completion_tokens=int(rng.lognormal(np.log(mean_tokens), 0.3)),
                    )
                )
            answers.append(problem_answer(problem.id))
        assert insert_branches(session, batch_id=claimed.id, epoch=claimed.epoch, rows=rows)
        assert answer_problems(session, batch_id=claimed.id, epoch=claimed.epoch, answers=answers)


@pytest.fixture
def learner(sessions: SessionFactory) -> Learner:
    return Learner(sessions, interval_s=0.02)


def test_the_next_decision_uses_what_was_learned(
    sessions: SessionFactory, learner: Learner
) -> None:
    with sessions.begin() as session:
        stored_worker(session)
    solve(sessions, "easy", num_problems=40, right=0.95, mean_tokens=60.0)
    solve(sessions, "hard", num_problems=40, right=0.3, mean_tokens=200.0)
    with sessions.begin() as session:
        new = {family: stored_job(session, family=family) for family in ("easy", "hard")}

    def predicted() -> dict[str, float]:
        with sessions.begin() as session:
            decisions = decide(read_snapshot(session, NOW), SchedulerConfig())
        forecasts = {item.job_id: item.forecast.accuracy for item in decisions.plans}
        return {family: forecasts[job_id] for family, job_id in new.items()}

    before = predicted()
    assert before["easy"] == pytest.approx(before["hard"])
    fitted = learner.refresh(after(10))
    assert sorted(fitted) == [Family(MODEL, "easy"), Family(MODEL, "hard")]
    learned = predicted()
    assert learned["easy"] > 0.93
    assert learned["hard"] < learned["easy"]
    with sessions.begin() as session:
        easy, hard = learned_profiles(session)
    assert easy.num_problems_seen == 40
    assert easy.accuracy_of(1, 1e6) == pytest.approx(0.95, abs=0.05)
    assert hard.accuracy_of(1, 1e6) == pytest.approx(0.3, abs=0.06)
    assert float(easy.length_quantile(0.5)) == pytest.approx(60.0, rel=0.15)
    assert float(hard.length_quantile(0.5)) == pytest.approx(200.0, rel=0.15)
    assert "40 latest problems" in easy.source
    assert "40 of them graded" in easy.source


def test_without_finished_problems_nothing_is_stored(
    sessions: SessionFactory, learner: Learner
) -> None:
    with sessions.begin() as session:
        stored_job(session)
    assert learner.refresh(NOW) == []
    with sessions.begin() as session:
        assert learned_profiles(session) == ()


def test_a_family_is_fitted_again_only_when_it_grew(
    sessions: SessionFactory, learner: Learner
) -> None:
    solve(sessions, "algebra", num_problems=60, right=0.9, mean_tokens=50.0)
    # Branches of `solve` finish half a second after NOW, which later looks do not see.
    assert learner.refresh(after(20)) == [Family(MODEL, "algebra")]
    assert learner.refresh(after(200)) == []
    solve(sessions, "algebra", num_problems=2, right=0.9, mean_tokens=50.0)
    with sessions.begin() as session:
        for branch in session.scalars(select(Branch).order_by(Branch.problem_id.desc()).limit(16)):
            branch.finished_at = after(250)
    assert learner.refresh(after(300)) == [], "two of 60 problems are no news"
    solve(sessions, "algebra", num_problems=3, right=0.9, mean_tokens=50.0)
    with sessions.begin() as session:
        for branch in session.scalars(select(Branch).order_by(Branch.problem_id.desc()).limit(24)):
            branch.finished_at = after(350)
    assert learner.refresh(after(400)) == [Family(MODEL, "algebra")]
    with sessions.begin() as session:
        assert session.get_one(LearnedProfile, (MODEL, "algebra")).num_problems == 65


def test_a_family_that_cannot_be_fitted_keeps_no_other_from_it(
    sessions: SessionFactory, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve(sessions, "algebra", num_problems=5, right=0.9, mean_tokens=50.0)
    solve(sessions, "geometry", num_problems=5, right=0.9, mean_tokens=50.0)

    def failing(*args: Any, **options: Any) -> AnswerProfile:
        if options["family"] == "algebra":
            raise ZeroDivisionError("no such length")
        return fit_answers(*args, **options)

    monkeypatch.setattr(learn, "fit_answers", failing)
    assert learner.refresh(after(20)) == [Family(MODEL, "geometry")]
    assert learner.refresh(after(200)) == [], "it is not tried again before there is news"


def test_a_fit_sees_no_more_problems_than_allowed(sessions: SessionFactory) -> None:
    solve(sessions, "algebra", num_problems=30, right=0.9, mean_tokens=50.0)
    Learner(sessions, num_problems=12).refresh(after(1))
    with sessions.begin() as session:
        assert learned_profiles(session)[0].num_problems_seen == 12


def test_it_learns_in_the_background_until_told_to_stop(
    sessions: SessionFactory, learner: Learner
) -> None:
    solve(sessions, "algebra", num_problems=5, right=0.9, mean_tokens=50.0)
    with learner.running():
        give_up_at = time.monotonic() + 30.0
        while time.monotonic() < give_up_at:
            with sessions.begin() as session:
                if learned_profiles(session):
                    break
            time.sleep(0.02)
    with sessions.begin() as session:
        assert len(learned_profiles(session)) == 1
    assert "learning" not in {thread.name for thread in threading.enumerate()}
