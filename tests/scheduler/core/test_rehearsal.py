"""A model's tables are made before its first job waits for them."""

from dataclasses import replace

from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.early_stops import stops_of
from scheduler.core.rehearsal import _rehearse, rehearse
from scheduler.core.successive import course_of
from tests.scheduler.core.worlds import ANSWERS, NOW, job, snapshot, worker

CONFIG = SchedulerConfig()


def num_tables() -> int:
    """Tables that were made so far."""
    return sum(table.cache_info().misses for table in (stops_of, course_of))


def test_the_first_job_of_a_model_finds_its_tables() -> None:
    # A profile that no other test has.
    idle = snapshot(workers=(worker(answers=replace(ANSWERS, num_problems_seen=4321)),))
    before = num_tables()
    rehearse(idle.workers, NOW, CONFIG)
    rehearsed = num_tables()
    assert rehearsed > before
    decisions = decide(replace(idle, jobs=(job(num_pending=7),)), CONFIG)
    assert decisions.new_batches
    assert num_tables() == rehearsed


def test_a_fleet_is_rehearsed_once() -> None:
    rehearsed = _rehearse.cache_info
    rehearse([], NOW, CONFIG)
    before = rehearsed()
    fleet = [worker(answers=replace(ANSWERS, num_problems_seen=4322))]
    for _ in range(3):
        rehearse(fleet, NOW, CONFIG)
    after = rehearsed()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
