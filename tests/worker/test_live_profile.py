"""A worker whose engine slows down tells the scheduler, which then plans by the truth."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from db.models import Worker
from db.session import SessionFactory
from db.snapshot import read_snapshot
from db.wake import listen
from db.workers import refresh_latency
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.latency import LatencyProfile
from scheduler.core.refresh import DRIFT_WINDOWS, WINDOW_STEPS
from tests.factories import engine_spec, latency_profile, stored_job, stored_worker
from tests.worker.engines.branches import branch
from tests.worker.recorded import prompt_of, write_recordings
from worker.engines.base import BranchFinished
from worker.engines.replay import VirtualReplayEngine, load_recordings
from worker.heartbeat import Heartbeat, Identity
from worker.live_profile import LiveProfile

STATED = latency_profile()
ROWS = 32


class Slowing:
    """A replay engine on a clock of its own, and the heartbeat of its worker on a real store."""

    def __init__(self, sessions: SessionFactory, folder: Path, truth: LatencyProfile) -> None:
        path = write_recordings(folder, [[("7", 300 + i) for i in range(ROWS)]] * 40)
        recordings = load_recordings(path, path.with_name("problems.jsonl"))
        self._now = datetime.now(UTC)
        spec = engine_spec(max_model_len=2048, kv_capacity_tokens=10**6)
        self._engine = VirtualReplayEngine(spec, truth, recordings, self._now)
        self.events: SimpleQueue[BranchFinished] = SimpleQueue()
        self._heartbeat = Heartbeat(
            sessions,
            Identity("w1", "w1-1"),
            lease_s=4.0,
            num_running_branches=lambda: ROWS,
            live_profile=LiveProfile(self._engine.totals, STATED),
            on_replaced=lambda: None,
        )
        self._submitted = 0

    def work(self, windows: int) -> None:
        """Decode for as many windows, with a beat after each second of the engine."""
        until = self._engine.totals().steps + windows * WINDOW_STEPS
        while self._engine.totals().steps < until:
            while self._submitted - self.events.qsize() < ROWS:
                number, index = divmod(self._submitted, ROWS)
                request = branch(
                    f"{self._submitted}",
                    prompt_of(number),
                    branch_index=index,
                    num_speculative_tokens=4,
                    max_tokens=1000,
                )
                self._engine.submit([request], self.events)
                self._submitted += 1
            self._now += timedelta(seconds=1)
            self._engine.advance_to(self._now)
            assert self._heartbeat.beat()


def profile_of(sessions: SessionFactory) -> LatencyProfile:
    with sessions() as session:
        return LatencyProfile.from_dict(session.get_one(Worker, "w1").latency_profile)


def test_a_slowdown_reaches_the_plans_within_a_few_windows(
    sessions: SessionFactory, database_url: str, tmp_path: Path
) -> None:
    began = datetime.now(UTC)
    with sessions.begin() as session:
        stored_worker(session, now=began)
        # Tight enough that the plan fills the time.
        stored_job(
            session, num_problems=40, created_at=began, deadline_at=began + timedelta(seconds=90)
        )
    config = SchedulerConfig()
    with sessions() as session:
        stored = read_snapshot(session, began)
    (first,) = decide(stored, config).plans
    finish_at = began + timedelta(seconds=first.forecast.finish_p95_s)
    job = replace(stored.jobs[0], plan=first.plan, predicted_at=finish_at)
    planned = replace(stored, jobs=(job,))
    assert decide(planned, config).plans == (), "the plan stands while the profile does"

    slow = Slowing(sessions, tmp_path, STATED.scaled(1.5))
    with listen(database_url) as listener:
        slow.work(2 * DRIFT_WINDOWS)
        assert listener.wait(5.0), "a drift wakes the scheduler"

    found = profile_of(sessions)
    assert float(found.step_time_s(ROWS, 4, 0)) == pytest.approx(
        1.5 * float(STATED.step_time_s(ROWS, 4, 0)), rel=0.05
    )
    assert "refreshed" in found.method
    assert found.measured_at >= began.isoformat(timespec="seconds")
    with sessions() as session:
        after = read_snapshot(session, datetime.now(UTC))
    assert after.workers[0].latency == found
    # The same instant, decided with the profile of now.
    (change,) = decide(replace(planned, workers=after.workers), config).plans
    assert change.forecast.finish_p95_s <= 90
    assert change.plan != first.plan


def test_a_true_profile_is_left_alone(sessions: SessionFactory, tmp_path: Path) -> None:
    with sessions.begin() as session:
        stored_worker(session, now=datetime.now(UTC))
    Slowing(sessions, tmp_path, STATED).work(3 * DRIFT_WINDOWS)
    now = profile_of(sessions)
    assert now.base_s == pytest.approx(STATED.base_s, rel=0.02)
    assert now.residual_sigma <= STATED.residual_sigma


def test_another_incarnation_keeps_its_own_profile(sessions: SessionFactory) -> None:
    with sessions.begin() as session:
        stored_worker(session, incarnation="w1-2")
        changed = STATED.scaled(2.0)
        assert not refresh_latency(session, name="w1", incarnation="w1-1", latency=changed)
    assert profile_of(sessions) == STATED
