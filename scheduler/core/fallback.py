"""What a running job gets when no plan that may be promised fits."""

from dataclasses import replace

import numpy as np

from scheduler.core.common_times import at_time
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import pessimistic
from scheduler.core.grid import Grid
from scheduler.core.offers import flatten
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import JobView
from scheduler.core.stopping import CUT_SHARE


def fallback(
    fleet: Fleet,
    job: JobView,
    config: SchedulerConfig,
    *,
    time_left_s: float,
    ahead_s: float = 0.0,
) -> tuple[Plan, Forecast]:
    """A plan for a running job that is short of time: answer what can still be answered.

    Plans that leave more problems without an answer than admission promises come in. Those that
    fit are preferred, then those whose median fits. Where one branch at a longer cap is right
    more often although the deadline cuts problems off, it is taken: the predicted accuracy
    counts the share of the work that fits in. Behind other work a problem gets one branch: wide
    and short plans would keep rows from those who wait.
    """
    grid = Grid.of(fleet, job, config)
    fleet = grid.fleet
    room_s = max(time_left_s - config.reserve_s, 0.0)
    cut_s = max(time_left_s - CUT_SHARE * config.reserve_s, 0.0)
    late_s = pessimistic(fleet, ahead_s)
    forecasts = at_time(grid.forecast([job]), room_s - late_s - config.dispatch_s)
    everything = np.ones(forecasts.p50_s.shape, dtype=bool)
    [options] = flatten(grid, forecasts, everything, [job], config)
    narrowest = options.is_narrowest
    allowed = narrowest | (ahead_s <= 0.0)
    index = options.best(allowed & (options.needed_s + late_s <= room_s), config)
    if index is None:
        index = options.best(allowed & (options.p50_s + ahead_s <= room_s), config)
    # Those that all run side by side end together, so no share of them fits.
    if index is None or job.num_pending > fleet.rows:
        tpot_s = fleet.tpot_s(fleet.rows, np.asarray(fleet.draft_lengths), job.mean_prompt_tokens)
        longest = float(max(room_s / tpot_s.min(), options.caps.min()))
        may_be_cut = narrowest & (options.caps <= longest)
        share = np.minimum(1.0, room_s / np.maximum(options.p50_s + ahead_s, 1e-9))
        right = np.where(may_be_cut, options.accuracy * share, -1.0)
        part = int(right.argmax())
        if index is None or right[part] > options.accuracy[index]:
            # Of those that run side by side all are begun, whatever share is answered.
            begun = float(share[part]) if job.num_pending > fleet.rows else 1.0
            forecast = options.forecast(part, ahead_s, late_s, scale=begun)
            return options.plan(part), replace(forecast, accuracy=float(right[part]))
    return options.plan(index), options.forecast(index, ahead_s, late_s, cut_s)
