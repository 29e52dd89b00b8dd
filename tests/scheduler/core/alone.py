"""The split of a job that has the workers for itself."""

from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import pessimistic
from scheduler.core.offers import candidates_of
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import JobView
from scheduler.core.stopping import CUT_SHARE


def best_plan(
    fleet: Fleet, job: JobView, config: SchedulerConfig, *, time_left_s: float, ahead_s: float = 0.0
) -> tuple[Plan, Forecast] | None:
    """The most accurate plan whose P95 finish leaves the reserve before the deadline.

    Args:
        ahead_s: Expected seconds for which other work holds the rows.
    """
    options = candidates_of(fleet, job, config)
    late_s = pessimistic(fleet, ahead_s)
    index = options.best(options.needed_s + late_s <= time_left_s - config.reserve_s, config)
    if index is None:
        return None
    cut_s = time_left_s - CUT_SHARE * config.reserve_s
    return options.plan(index), options.forecast(index, ahead_s, late_s, cut_s)
