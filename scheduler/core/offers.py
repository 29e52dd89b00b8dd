"""Which plans a job is offered: its candidates, made of forecasts of its grid."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scheduler.core.candidates import Candidates
from scheduler.core.common_times import at_common_times
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import RUN_ON, ForecastGrid
from scheduler.core.grid import Grid, token_bound
from scheduler.core.snapshot import JobView

MAX_TOGETHER = 16
"""Jobs forecast at once at most: their arrays stay in the processor's cache."""


def candidates_of(
    fleet: Fleet, job: JobView, config: SchedulerConfig, other_branches: float = 0.0
) -> Candidates:
    """Candidates of a job with pending problems that answer enough of them to be promised.

    Args:
        other_branches: Branches of other jobs that fill the rows which this job leaves free.
    """
    return all_candidates(fleet, [job], config, [other_branches])[0]


def all_candidates(
    fleet: Fleet, jobs: Sequence[JobView], config: SchedulerConfig, other_branches: Sequence[float]
) -> list[Candidates]:
    """`candidates_of` several jobs; those with the same grid are forecast together."""
    together: dict[Grid, list[int]] = {}
    for index, job in enumerate(jobs):
        together.setdefault(Grid.of(fleet, job, config), []).append(index)
    found: list[Candidates | None] = [None] * len(jobs)
    for grid, members in together.items():
        for start in range(0, len(members), MAX_TOGETHER):
            some = members[start : start + MAX_TOGETHER]
            made = _candidates(
                grid, [jobs[i] for i in some], config, [other_branches[i] for i in some]
            )
            for index, one in zip(some, made, strict=True):
                found[index] = one
    return [one for one in found if one is not None]


def flatten(
    grid: Grid,
    forecast: ForecastGrid,
    keep: NDArray[np.bool_],
    jobs: Sequence[JobView],
    config: SchedulerConfig,
) -> list[Candidates]:
    """The candidates to keep of each of these jobs."""
    job, width, draft, cap = np.nonzero(keep)
    caps, last_cap = forecast.caps, len(forecast.caps) - 1
    bounds = np.array([max(math.floor(token_bound(grid.fleet, one)), caps[-1]) for one in jobs])
    beyond = np.broadcast_to(bounds[:, None], (len(jobs), RUN_ON))
    longer = np.concatenate([np.broadcast_to(caps, (len(jobs), len(caps))), beyond], axis=1)
    needed_s, cap_s = forecast.needed_s[keep], forecast.cap_s[keep]
    is_queued = forecast.is_queued[keep]
    in_turn = np.array([one.is_successive for one in forecast.widths])[width]
    # What the deadline cuts runs on until then. A queue does as far as its last problem is still
    # expected to start in time for the cap that accuracy counts.
    steps_on = np.where(is_queued, 0, RUN_ON)
    for steps in range(1, RUN_ON + 1):
        start_s = forecast.throughput_s[job, width, draft, np.minimum(cap + steps, last_cap)]
        steps_on[is_queued & (start_s + cap_s <= needed_s)] = steps
    # A token less for each cap, so that no two candidates are the same plan.
    less = np.arange(len(caps), 0, -1)[cap]
    run_on = np.where(
        steps_on, np.maximum(longer[job, cap + steps_on] - less, caps[cap]), caps[cap]
    )
    longest = np.where(in_turn, np.maximum(bounds[job] - less, 1), run_on)
    plans = np.stack(
        [
            np.array([width.num_branches for width in forecast.widths])[width],
            np.asarray(forecast.draft_lengths)[draft],
            longest.astype(np.int64),
            np.array([width.max_branches for width in forecast.widths])[width],
        ],
        axis=1,
    )
    # Others wait for as long as branches may run on. The end of a queue finds free rows and may
    # take as long as what runs on; branches that follow others go on until the vote is clear.
    until = np.minimum(cap + np.where(in_turn, RUN_ON, steps_on), last_cap)
    row_seconds = forecast.row_seconds[job, width, draft, until]
    throughput_s = forecast.throughput_s[job, width, draft, np.where(in_turn, cap, until)]
    last = np.where(in_turn, last_cap, np.minimum(cap + RUN_ON, last_cap))
    start_s = config.dispatch_s + throughput_s - forecast.throughput_s[job, width, draft, last]
    p50_s = forecast.p50_s[job, width, draft, last] + start_s
    p95_s = forecast.p95_s[job, width, draft, last] + start_s
    accuracy = forecast.accuracy[keep]
    kept_s = np.minimum(needed_s, forecast.p95_s[keep]) + config.dispatch_s
    needed_s = needed_s + config.dispatch_s
    ends = np.searchsorted(job, np.arange(len(jobs)), side="right").tolist()
    return [
        Candidates(
            p50_s=p50_s[own],
            p95_s=p95_s[own],
            needed_s=needed_s[own],
            kept_s=kept_s[own],
            accuracy=accuracy[own],
            throughput_s=throughput_s[own],
            cap_s=cap_s[own] + config.dispatch_s,
            runs_on=(~is_queued & ~in_turn)[own],
            row_seconds=row_seconds[own],
            caps=forecast.tokens[keep][own],
            plans=plans[own],
            wave_rows=grid.fleet.least_rows,
            stop_gains=(config.stop_gain, config.branch_gain),
        )
        for own in map(slice, [0, *ends], ends)
    ]


def _candidates(
    grid: Grid, jobs: Sequence[JobView], config: SchedulerConfig, other_branches: Sequence[float]
) -> list[Candidates]:
    forecast = grid.forecast(jobs, other_branches)
    # Other draft lengths are slower and dearer; of a queue also the one that ends first may count,
    # which is neither where its end weighs as much, or where longer drafts are less certain.
    keep = np.zeros(forecast.needed_s.shape, dtype=bool)
    np.put_along_axis(keep, forecast.needed_s.argmin(axis=2, keepdims=True), True, axis=2)
    keep &= forecast.is_queued
    np.put_along_axis(keep, forecast.best_drafts, True, axis=2)
    for index, job in enumerate(jobs):
        if job.plan and job.plan.num_speculative_tokens in forecast.draft_lengths:
            keep[index, :, forecast.draft_lengths.index(job.plan.num_speculative_tokens)] = True
    forecast = at_common_times(forecast, config.min_answered)
    enough = np.where(
        forecast.is_queued,
        forecast.enough(config.min_answered_queued),
        forecast.enough(config.min_answered),
    )
    return flatten(grid, forecast, keep & (forecast.answered >= enough), jobs, config)
