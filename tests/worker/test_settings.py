"""Settings that a worker shares with the scheduler."""

import pytest

from api.settings import ApiSettings
from scheduler.config import SchedulerSettings
from scheduler.core.config import SchedulerConfig
from worker.settings import WorkerSettings


def test_one_variable_sets_the_reserve_of_worker_scheduler_and_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, redis = "postgresql://none", "redis://none"
    monkeypatch.setenv("SLACKLINE_SCHEDULER__RESERVE_S", "2.5")

    found = (
        WorkerSettings(name="w1", database_url=database, redis_url=redis).scheduler,
        SchedulerSettings(database_url=database, redis_url=redis).scheduler,
        ApiSettings(database_url=database).scheduler,
    )

    assert found == (SchedulerConfig(reserve_s=2.5),) * 3
