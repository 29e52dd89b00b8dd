"""Deadlines at risk are told before they are missed, once, and taken back once."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Risk, RiskReason
from scheduler.core.snapshot import JobView
from tests.scheduler.core.worlds import NOW, batch, job, snapshot, worker

CONFIG = SchedulerConfig()


def told(*jobs: JobView, served: bool = True) -> tuple[Risk, ...]:
    return decide(snapshot(jobs, workers=None if served else ()), CONFIG).risks


def test_a_deadline_that_no_plan_keeps_is_told_with_the_finish_that_is_predicted() -> None:
    [risk] = told(job(deadline_s=4.0, num_pending=200))
    assert risk.reason is RiskReason.TOO_LATE
    assert risk.finish_p95_s is not None
    assert risk.finish_p95_s > 4.0


def test_a_deadline_that_is_kept_is_not_told() -> None:
    assert told(job(), job("late", deadline_s=600.0)) == ()


def test_a_risk_is_told_once() -> None:
    late = job(deadline_s=4.0, num_pending=200)
    assert told(replace(late, risk=RiskReason.TOO_LATE)) == ()


def test_work_before_a_job_puts_it_at_risk() -> None:
    behind = job("behind", deadline_s=30.0, num_pending=200)
    assert told(behind) == ()
    [risk] = told(job("before", deadline_s=27.0, num_pending=200), behind)
    assert (risk.job_id, risk.reason) == ("behind", RiskReason.TOO_LATE)


def test_what_has_room_again_is_on_track_and_what_is_at_the_edge_stays_at_risk() -> None:
    at_risk = job(deadline_s=600.0, risk=RiskReason.TOO_LATE)
    [risk] = told(at_risk)
    assert risk.reason is None
    assert risk.finish_p95_s is not None
    assert risk.finish_p95_s < 600.0
    # The nearest deadline, in tenths of a second, that is not told to be at risk.
    edge_s = next(n / 10 for n in range(10, 6000) if not told(job(deadline_s=n / 10)))
    assert told(job(deadline_s=edge_s, risk=RiskReason.TOO_LATE)) == ()


@settings(deadline=None, max_examples=60)
@given(st.floats(1.0, 60.0), st.integers(1, 200), st.integers(0, 8))
def test_no_state_of_the_world_tells_a_job_back_and_forth(
    deadline_s: float, num_pending: int, num_others: int
) -> None:
    others = [job(f"o{n}", deadline_s=5.0 + n, num_pending=50) for n in range(num_others)]

    def after(risk: RiskReason | None) -> RiskReason | None:
        one = job(deadline_s=deadline_s, num_pending=num_pending, risk=risk)
        changes = [change.reason for change in told(*others, one) if change.job_id == one.id]
        return changes[0] if changes else risk

    for before in (None, *RiskReason):
        settled = after(before)
        assert after(settled) is settled


def test_a_job_that_nobody_serves_is_at_risk_until_somebody_does() -> None:
    waiting = job(deadline_s=600.0)
    assert [risk.reason for risk in told(waiting, served=False)] == [RiskReason.NO_WORKER]
    unserved = replace(waiting, risk=RiskReason.NO_WORKER)
    assert told(unserved, served=False) == ()
    assert [risk.reason for risk in told(unserved)] == [None]
    late = job(deadline_s=4.0, num_pending=200, risk=RiskReason.NO_WORKER)
    assert [risk.reason for risk in told(late)] == [RiskReason.TOO_LATE]


def test_problems_with_workers_beyond_the_predicted_finish_are_overdue() -> None:
    held = job(deadline_s=60.0, num_pending=0, num_in_flight=2)
    on_time = replace(held, predicted_at=NOW + timedelta(seconds=5))
    overdue = replace(held, predicted_at=NOW - timedelta(seconds=10))

    def told_of(one: JobView) -> list[RiskReason | None]:
        world = snapshot((one,), (batch(job_id=one.id),), (worker(),))
        return [risk.reason for risk in decide(world, CONFIG).risks]

    assert told_of(on_time) == []
    assert told_of(overdue) == [RiskReason.OVERDUE]
    assert told_of(replace(overdue, risk=RiskReason.OVERDUE)) == []
    assert told_of(replace(on_time, risk=RiskReason.NO_WORKER)) == [None]


def test_a_best_effort_is_never_at_risk() -> None:
    effort = replace(job(deadline_s=4.0, num_pending=200), is_promised=False)
    assert told(effort) == ()
    assert told(effort, served=False) == ()


def test_a_tick_tells_a_bounded_number_of_jobs_the_most_urgent_first() -> None:
    jobs = [job(f"j{n}", deadline_s=600.0 + n) for n in range(100)]
    risks = told(*reversed(jobs), served=False)
    assert [risk.job_id for risk in risks] == [f"j{n}" for n in range(CONFIG.max_refreshed)]


def test_a_finish_beyond_all_reason_is_told_without_an_instant() -> None:
    [risk] = told(job(num_pending=10**12))
    assert (risk.reason, risk.finish_p95_s) == (RiskReason.TOO_LATE, None)
