"""Settings that a worker shares with the scheduler."""

import pytest
from pydantic import ValidationError

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


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MAX_BATCHES_PER_WORKER", "0", "use 1 to 64 threads"),
        ("MAX_BATCHES_PER_WORKER", "65", "use 1 to 64 threads"),
        ("RESERVE_S", "-1", "use 0 or more seconds"),
        ("RESERVE_S", "nan", "use 0 or more seconds"),
    ],
)
def test_a_shared_setting_out_of_bounds_is_refused_with_what_to_use(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SLACKLINE_SCHEDULER__{name}", value)
    with pytest.raises(ValidationError, match=said):
        WorkerSettings(name="w1", database_url="postgresql://none", redis_url="redis://none")
