"""Explanations of jobs over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from db import events
from db.batches import lose_batches
from db.deadlines import expire_jobs
from db.endings import finish_jobs
from db.models import Job, JobEvent
from db.plans import store_plan
from db.problems import answer_problems
from db.session import SessionFactory, transaction
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import LossReason, PlanReason
from scheduler.core.event_kinds import EventKind
from tests.api.live import error_of, job_body
from tests.factories import (
    after,
    claimed_batch,
    forecast,
    plan,
    problem_answer,
    stored_batch,
    stored_job,
)

FATES = {
    "chosen",
    "too_late",
    "too_wide",
    "rows_needed",
    "too_dear",
    "no_gain",
    "less_accurate",
    "dominated",
}


def explained(api: httpx.Client, job_id: str) -> dict[str, Any]:
    response = api.get(f"/v1/jobs/{job_id}/explain")
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def submitted(api: httpx.Client, **overrides: Any) -> dict[str, Any]:
    response = api.post("/v1/jobs", json=job_body(**overrides))
    assert response.status_code == 201, response.text
    job: dict[str, Any] = response.json()
    return job


def test_a_queued_job_is_explained_by_its_admission_and_as_it_stands(api: httpx.Client) -> None:
    job = submitted(api)

    explanation = explained(api, job["id"])

    assert (explanation["object"], explanation["job_id"]) == ("explanation", job["id"])
    assert (explanation["state"], explanation["verdict"]) == ("queued", "accepted")
    assert explanation["outcome"] is None
    reserve_s = SchedulerConfig().reserve_s
    for decision in (explanation["admission"], explanation["now"]):
        assert (decision["num_workers"], decision["rows"], decision["num_jobs_ahead"]) == (1, 32, 0)
        assert (decision["num_problems"], decision["reserve_s"]) == (3, reserve_s)
        assert 3_590 < decision["time_left_s"] <= 3_600
        assert decision["is_in_time"]
        assert decision["plan"] == job["plan"]
        assert 0 < decision["num_in_time"] <= decision["num_candidates"]
        assert "finish in time" in decision["why"]
        assert "Cold start" in decision["basis"]["note"]
        fates = [candidate["fate"] for candidate in decision["candidates"]]
        assert fates.count("chosen") == 1
        assert set(fates) <= FATES
        assert all(candidate["why"] for candidate in decision["candidates"])
    (accepted,) = explanation["history"]
    assert (accepted["kind"], accepted["what"]) == ("job.queued", "Accepted: 3 problems")
    assert "decision" not in accepted["data"]


def test_what_is_due_earlier_is_counted_as_load_ahead(api: httpx.Client) -> None:
    submitted(api, num_problems=20, deadline="30m")
    job = submitted(api)

    admission = explained(api, job["id"])["admission"]

    assert admission["num_jobs_ahead"] == 1
    assert 0 < admission["ahead_s"] < admission["ahead_p95_s"]


def test_changes_of_plan_and_rescues_are_told_with_their_reason(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session)
        store_plan(
            session,
            job_id,
            plan(num_branches=1),
            forecast(),
            now=after(3),
            reason=PlanReason.WOULD_BE_LATE,
        )
        batch_id = stored_batch(session, job_id, num_problems=3)
        lose_batches(session, [batch_id], reason=LossReason.WORKER_RESTARTED, now=after(6))

    told = {entry["kind"]: entry for entry in explained(api, job_id)["history"]}

    assert told["plan.stored"]["what"] == (
        "1 branch x draft 0, 128 tokens instead of 4 branches x draft 0, 128 tokens:"
        " the plan before would no longer finish in time with 95%"
    )
    assert told["plan.stored"]["data"]["before"]["num_branches"] == 4
    assert told["batch.lost"]["what"] == "w1 was restarted; rescued 3 problems"
    assert "batch.planned" not in told


def test_an_ended_job_shows_its_forecast_beside_what_came(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, deadline_at=after(60))
        assert expire_jobs(session, [job_id], now=after(60)) == [job_id]
        assert finish_jobs(session, now=after(60)) == [job_id]

    explanation = explained(api, job_id)

    assert explanation["now"] is None
    outcome = explanation["outcome"]
    assert (outcome["within_p95"], outcome["accuracy"]) == (False, None)
    assert outcome["admitted_accuracy"] == forecast().accuracy
    assert [entry["what"] for entry in explanation["history"][1:]] == [
        "The deadline closed what was open: 4 expired",
        "Expired: 4 expired",
    ]


def test_problems_that_stopped_early_are_counted(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=3)
        batch = claimed_batch(session, job_id, num_problems=3)
        answers = [
            problem_answer(problem.id, num_branches_finished=finished)
            for problem, finished in zip(batch.problems, (2, 4), strict=False)
        ]
        assert answer_problems(session, batch_id=batch.id, epoch=batch.epoch, answers=answers)

    stops = explained(api, job_id)["stops"]

    assert stops == {"num_answered": 2, "num_stopped": 1, "num_branches_spared": 2}


def test_a_long_history_is_cut_and_says_so(api: httpx.Client, sessions: SessionFactory) -> None:
    with transaction(sessions) as session:
        job_id = stored_job(session)
        struck = [events.Event(job_id, EventKind.DEADLINE_STRUCK, {"expired": 1})] * 300
        events.record_all(session, struck, now=after(1))

    explanation = explained(api, job_id)

    assert len(explanation["history"]) == 200
    assert explanation["history_has_more"]


@pytest.mark.parametrize("decision", [None, {"rows": "of another release"}])
def test_a_job_that_another_release_admitted_is_explained_without_its_admission(
    api: httpx.Client, sessions: SessionFactory, decision: dict[str, str] | None
) -> None:
    job = submitted(api)
    with transaction(sessions) as session:
        session.execute(
            update(JobEvent)
            .where(JobEvent.job_id == job["id"])
            .values(data={"num_problems": 3, "decision": decision})
        )

    explanation = explained(api, job["id"])

    assert explanation["admission"] is None
    assert explanation["now"] is not None


def test_a_job_out_of_time_has_no_decision_of_now(
    api: httpx.Client, sessions: SessionFactory
) -> None:
    job = submitted(api)
    with transaction(sessions) as session:
        passed = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == job["id"]).values(deadline_at=passed))

    assert explained(api, job["id"])["now"] is None


@pytest.mark.parametrize("job_id", ["job_" + "0" * 32, "job_1", "%00", "..%2Fjobs"])
def test_an_unknown_job_is_a_404(api: httpx.Client, job_id: str) -> None:
    response = api.get(f"/v1/jobs/{job_id}/explain")

    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
