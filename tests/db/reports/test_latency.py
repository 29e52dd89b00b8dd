"""The latency report agrees with numpy and with arithmetic by hand."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from db.branches import BranchRow, insert_branches
from db.deadlines import expire_jobs
from db.endings import finish_cancelled, finish_jobs
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT, create_tenant, ensure_local_tenant
from db.models import Job
from db.problems import answer_problems
from db.refusals import insert_refusal
from db.reports import GroupBy, Percentiles, Selection, latency_report
from db.results import results_page
from db.session import SessionFactory
from db.traces import mean_acceptance_lengths
from scheduler.core.decisions import Rejected, RejectReason
from scheduler.core.sketch import ALPHA
from scheduler.core.states import ProblemState
from tests.factories import (
    NOW,
    after,
    branch_row,
    claimed_batch,
    new_job,
    problem_answer,
    stored_job,
    unfinished_row,
)

DAY = Selection(NOW - timedelta(hours=1), NOW + timedelta(hours=23))


def _random_rows(rng: np.random.Generator, problem_id: int, count: int) -> list[BranchRow]:
    rows = []
    for index in range(count):
        queue, first, decode = rng.exponential(1.0, size=3)
        rows.append(
            branch_row(
                problem_id,
                index,
                queue_time_s=float(queue),
                ttft_s=float(queue + first),
                decode_time_s=float(decode),
                completion_tokens=int(rng.integers(1, 60)),
                finished_at=after(float(queue + first + decode)),
                finish_reason=str(rng.choice(["stop", "length"])),
            )
        )
    return rows


def _close(actual: Percentiles, values: list[float]) -> None:
    expected = np.percentile(values, [50, 90, 99])
    assert [actual.p50, actual.p90, actual.p99] == pytest.approx(expected, rel=ALPHA, abs=2e-6)


def test_percentiles_are_those_of_numpy_within_the_error_of_a_sketch(
    sessions: SessionFactory,
) -> None:
    rng = np.random.default_rng(7)
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        problem_id = claimed.problems[0].id
        rows = _random_rows(rng, problem_id, 200)
        aborted = [unfinished_row(problem_id, 200, queue_time_s=99.0)]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows + aborted)
        (report,) = latency_report(session, DAY)
    assert (report.group, report.num_branches) == (None, 200)
    _close(report.queue_time_s, [row.queue_time_s for row in rows])
    _close(report.ttft_s, [row.ttft_s for row in rows if row.ttft_s is not None])
    _close(
        report.tpot_s,
        [
            row.decode_time_s / (row.completion_tokens - 1)
            for row in rows
            if row.decode_time_s is not None and row.completion_tokens > 1
        ],
    )
    _close(
        report.e2e_latency_s,
        [(row.finished_at - row.queued_at).total_seconds() for row in rows],
    )


def test_an_empty_range_gives_no_rows(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        for group_by in (None, *GroupBy):
            assert latency_report(session, DAY, group_by=group_by) == []


def _ended_job(sessions: SessionFactory, *, finished_at: datetime, **overrides: Any) -> str:
    """A job of one problem that was answered at this instant by one branch."""
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=1, **overrides)
        claimed = claimed_batch(session, job_id)
        problem_id = claimed.problems[0].id
        rows = [branch_row(problem_id, finished_at=finished_at)]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        answers = [problem_answer(problem_id, finished_at=finished_at)]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        assert finish_jobs(session, now=finished_at) == [job_id]
        return job_id


def test_attainment_counts_ended_jobs_that_met_their_deadline(sessions: SessionFactory) -> None:
    _ended_job(sessions, finished_at=after(10))
    _ended_job(sessions, finished_at=after(60))
    _ended_job(sessions, finished_at=after(60.1))
    with sessions.begin() as session:
        expired = stored_job(session)
        # Ends exactly at its deadline, but without an answer.
        expire_jobs(session, [expired], now=after(60))
        finish_jobs(session, now=after(60))
        failed = claimed_batch(session, stored_job(session, num_problems=1))
        answer = problem_answer(
            failed.problems[0].id,
            state=ProblemState.FAILED,
            answer=None,
            vote_share=None,
            is_correct=None,
            error="the prompt is too long",
        )
        answer_problems(session, batch_id=failed.id, epoch=failed.epoch, answers=[answer])
        assert finish_jobs(session, now=after(2)) == [failed.job_id]
        cancelled = stored_job(session)
        request_cancel(session, LOCAL_TENANT, cancelled, now=after(1))
        finish_cancelled(session, cancelled, now=after(1))
        stored_job(session)
        (report,) = latency_report(session, DAY)
    assert (report.num_jobs, report.slo_attainment) == (5, 0.4)


def test_rows_are_grouped_by_model_tenant_and_hour(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        school = create_tenant(session, name="school", now=NOW)
    _ended_job(sessions, finished_at=after(10))
    _ended_job(sessions, finished_at=after(20), model="large")
    _ended_job(sessions, finished_at=after(3700), tenant_id=school, deadline_at=after(4000))
    with sessions.begin() as session:
        by_model = latency_report(session, DAY, group_by=GroupBy.MODEL)
        by_tenant = latency_report(session, DAY, group_by=GroupBy.TENANT)
        by_hour = latency_report(session, DAY, group_by=GroupBy.HOUR)
        large = replace(DAY, filters={"model": "large"})
        of_large = latency_report(session, large, group_by=GroupBy.TENANT)
        schools = latency_report(session, replace(DAY, tenant_id=school))
        early = latency_report(session, Selection(NOW, after(20)))
    assert [(row.group, row.num_jobs) for row in by_model] == [("demo", 2), ("large", 1)]
    assert {row.group: row.num_jobs for row in by_tenant} == {LOCAL_TENANT: 2, school: 1}
    assert [(row.group, row.num_jobs) for row in by_hour] == [
        (NOW.isoformat(), 2),
        (after(3600).isoformat(), 1),
    ]
    assert all(row.num_branches == row.num_jobs for row in by_model + by_tenant + by_hour)
    assert [(row.group, row.num_jobs) for row in of_large] == [(LOCAL_TENANT, 1)]
    assert [row.num_jobs for row in schools] == [1]
    assert [row.num_jobs for row in early] == [1]


def test_a_best_effort_counts_as_a_job_and_not_for_attainment(sessions: SessionFactory) -> None:
    effort = _ended_job(sessions, finished_at=after(60.1))
    with sessions.begin() as session:
        session.get_one(Job, effort).is_promised = False
        (alone,) = latency_report(session, DAY)
    _ended_job(sessions, finished_at=after(10))
    with sessions.begin() as session:
        (report,) = latency_report(session, DAY)
    assert (alone.num_jobs, alone.slo_attainment) == (1, None)
    assert (report.num_jobs, report.slo_attainment) == (2, 1.0)


def test_refusals_are_counted_beside_attainment_by_group(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        ensure_local_tenant(session, now=NOW)
        school = create_tenant(session, name="school", now=NOW)
        _refuse(session, at=after(1))
        _refuse(session, at=after(3700), model="large")
        _refuse(session, at=after(3700), tenant_id=school)
        _refuse(session, at=after(-3601))
    _ended_job(sessions, finished_at=after(10))
    with sessions.begin() as session:
        counted = {
            group_by: {
                row.group: (row.num_jobs, row.num_refused)
                for row in latency_report(session, DAY, group_by=group_by)
            }
            for group_by in (None, GroupBy.MODEL, GroupBy.TENANT, GroupBy.HOUR, GroupBy.ENGINE)
        }
        large = latency_report(session, replace(DAY, filters={"model": "large"}))
        schools = latency_report(session, replace(DAY, tenant_id=school))
    assert counted == {
        None: {None: (1, 3)},
        GroupBy.MODEL: {"demo": (1, 2), "large": (0, 1)},
        GroupBy.TENANT: {LOCAL_TENANT: (1, 2), school: (0, 1)},
        GroupBy.HOUR: {NOW.isoformat(): (1, 1), after(3600).isoformat(): (0, 2)},
        # Nobody knows which engine would have run what was refused.
        GroupBy.ENGINE: {"replay": (1, 0), None: (0, 3)},
    }
    assert [row.num_refused for row in large + schools] == [1, 1]


def _refuse(session: Session, *, at: datetime, **overrides: Any) -> None:
    job = replace(new_job(created_at=at), **overrides)
    insert_refusal(session, job, Rejected(RejectReason.DEADLINE_INFEASIBLE, 90.0))


def test_jobs_without_branches_still_count_for_attainment(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session)
        expire_jobs(session, [job_id], now=after(61))
        finish_jobs(session, now=after(61))
        (report,) = latency_report(session, DAY, group_by=GroupBy.MODEL)
    assert (report.num_branches, report.tpot_s) == (0, Percentiles())
    assert (report.num_jobs, report.slo_attainment) == (1, 0.0)


def test_mean_acceptance_length_is_tokens_per_forward_pass(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        claimed = claimed_batch(session, stored_job(session, num_problems=1))
        problem_id = claimed.problems[0].id
        rows = [
            branch_row(problem_id, 0, completion_tokens=31, num_steps=10),
            branch_row(problem_id, 1, completion_tokens=21, num_steps=10),
            # One token comes from the prefill; no step ran.
            branch_row(problem_id, 2, completion_tokens=1, num_steps=0),
            replace(unfinished_row(problem_id, 3), completion_tokens=11, num_steps=5),
        ]
        insert_branches(session, batch_id=claimed.id, epoch=1, rows=rows)
        without = stored_job(session)
        found = mean_acceptance_lengths(session, [claimed.job_id, without])
    assert found == {claimed.job_id: pytest.approx((30 + 20 + 10) / 25)}


def test_results_are_paged_by_position(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        job_id = stored_job(session, num_problems=5)
        claimed = claimed_batch(session, job_id, num_problems=2)
        answers = [problem_answer(claimed.problems[1].id)]
        answer_problems(session, batch_id=claimed.id, epoch=1, answers=answers)
        first = results_page(session, job_id, limit=3)
        second = results_page(session, job_id, after=first[-1].position, limit=3)
        assert results_page(session, job_id, after=second[-1].position, limit=3) == []
    assert [result.key for result in first + second] == ["p0", "p1", "p2", "p3", "p4"]
    assert [result.state for result in first] == ["running", "answered", "pending"]
    assert (first[1].answer, first[1].vote_share, first[0].answer) == ("7", 1.0, None)
