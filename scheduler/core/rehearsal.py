"""Tabulating a newly served model's forecasts before the first job waits for them.

Theory of operation: the first plans on a fleet take about a second, most of it for tables that
later ones share and processes remember. A job made up for the fleet is planned and forgotten.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet, alive_workers, fleets_by_model
from scheduler.core.packing import place_on_rows
from scheduler.core.snapshot import JobView, WorkerView
from scheduler.core.states import JobState
from scheduler.core.upgrades import upgrade

_MAX_BRANCHES = 16
"""What clients get who do not ask for another bound."""
_PROMPT_TOKENS = 100.0
_LEFT = timedelta(hours=1)
_NOW = datetime(1970, 1, 1, tzinfo=UTC)
"""Any instant: tables do not depend on it."""


def rehearse(workers: Iterable[WorkerView], now: datetime, config: SchedulerConfig) -> None:
    """Make the tables of the alive workers' models, where this process has not made them yet."""
    for fleet in fleets_by_model(alive_workers(workers, now, config)).values():
        _rehearse(fleet, config)


@lru_cache(maxsize=256)
def _rehearse(fleet: Fleet, config: SchedulerConfig) -> None:
    job = JobView(
        id="",
        tenant_id="",
        model=fleet.members[0].spec.model,
        state=JobState.QUEUED,
        created_at=_NOW,
        deadline_at=_NOW + _LEFT,
        weight=1.0,
        max_branches=_MAX_BRANCHES,
        max_tokens=None,
        min_accuracy=None,
        mean_prompt_tokens=_PROMPT_TOKENS,
        num_pending=1,
        num_in_flight=0,
    )
    # A fleet that cannot be planned for is told of when it gets a job.
    with suppress(Exception):
        upgrade(place_on_rows(fleet, [job], [], _NOW, config))
