"""The split of one job: candidates, the best that fits, and what to do when nothing fits."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import Z95, ForecastGrid, forecast_plans
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Forecast, Plan
from scheduler.core.snapshot import JobView
from scheduler.core.stopping import CUT_SHARE

NUM_CAPS = 20
"""Caps offered, each about a fifth longer than the one before: the error of a cap's accuracy and
time is half a step at most, and candidates cost time."""
CAP_QUANTILES = (0.003, 0.999)
"""The shortest and the longest cap, as shares of branches that finish. Cutting many branches lets
more of them run, of which the shortest finish."""

CUT_STEPS = 4
"""Where the deadline cuts the branches, the cap is so many steps longer, about twice as long: the
engine may be faster than forecast with all rows busy, and the deadline bounds what is lost."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Plans of one job that may be worth choosing, as parallel arrays.

    Attributes:
        p50_s, p95_s: Finish once the job has the rows, as in `ForecastGrid`.
        needed_s: Seconds that must be left once the job has the rows.
        row_seconds: Cost.
        plans: (num_branches, num_speculative_tokens, max_tokens); (candidates, 3). Where the
            deadline may cut the branches, the cap leaves room for a faster engine.
    """

    p50_s: FloatArray
    p95_s: FloatArray
    needed_s: FloatArray
    accuracy: FloatArray
    row_seconds: FloatArray
    plans: NDArray[np.int64]
    wave_rows: int
    stop_gain: float

    def plan(self, index: int) -> Plan:
        """The plan at a position; a batch of it fills about half of a worker's rows."""
        width, draft, cap = (int(value) for value in self.plans[index])
        wave_size = max(1, self.wave_rows // (2 * width))
        return Plan(width, draft, cap, wave_size, stop_gain=self.stop_gain)

    def forecast(
        self, index: int, ahead_s: float, delay_p95_s: float, limit_s: float = math.inf
    ) -> Forecast:
        """What the plan promises when other work takes the rows first.

        Args:
            ahead_s: Expected seconds until the job has the rows.
            delay_p95_s: Pessimistic value of the same.
            limit_s: Seconds until the deadline ends what still runs.
        """
        return Forecast(
            finish_p50_s=float(min(ahead_s + self.p50_s[index], limit_s)),
            finish_p95_s=float(min(delay_p95_s + self.p95_s[index], limit_s)),
            accuracy=float(self.accuracy[index]),
            row_seconds=float(self.row_seconds[index]),
        )

    def best(self, is_allowed: NDArray[np.bool_], config: SchedulerConfig) -> int | None:
        """The most accurate of the allowed; of near equals the cheapest, then the earliest."""
        allowed = np.flatnonzero(is_allowed)
        if not allowed.size:
            return None
        # Rounding down to steps, unlike comparing pairs, keeps the order transitive: a plan that
        # becomes possible can only raise the step.
        step = np.floor(self.accuracy[allowed] / config.accuracy_tie)
        order = np.lexsort((self.needed_s[allowed], self.row_seconds[allowed], -step))
        return int(allowed[order[0]])

    def find(self, plan: Plan | None) -> int | None:
        """Position of a stored plan, whatever its wave size; None when it is no candidate."""
        if plan is None:
            return None
        key = (plan.num_branches, plan.num_speculative_tokens, plan.max_tokens)
        found = np.flatnonzero((self.plans == key).all(axis=1))
        return int(found[0]) if found.size else None


def candidates_of(
    fleet: Fleet, job: JobView, config: SchedulerConfig, other_branches: float = 0.0
) -> Candidates:
    """Candidates of a job with pending problems that may be promised: most problems get an answer.

    Args:
        other_branches: Branches of other jobs that fill the rows which this job leaves free.
    """
    return _candidates(
        fleet.informed(job.answers),
        config,
        num_problems=job.num_pending,
        prompt_tokens=job.mean_prompt_tokens,
        max_branches=job.max_branches,
        max_tokens=job.max_tokens,
        stored_draft=job.plan.num_speculative_tokens if job.plan else None,
        # More than all rows make no difference.
        other_branches=min(other_branches, fleet.rows),
    )


@lru_cache(maxsize=4096)
def _candidates(
    fleet: Fleet,
    config: SchedulerConfig,
    *,
    num_problems: int,
    prompt_tokens: float,
    max_branches: int,
    max_tokens: int | None,
    stored_draft: int | None,
    other_branches: float,
) -> Candidates:
    """`candidates_of`, remembered: most jobs do not change between two ticks."""
    widths = _widths(config, max_branches)
    bound = _token_bound(fleet, prompt_tokens, max_tokens)
    caps = np.unique(np.floor(np.minimum(caps_of(fleet.answers), bound)))
    grid = forecast_plans(
        fleet,
        num_problems=num_problems,
        prompt_tokens=prompt_tokens,
        branches=widths,
        draft_lengths=fleet.draft_lengths,
        caps=caps,
        other_branches=other_branches,
        stop_gain=config.stop_gain,
    )
    # Of the draft lengths only the fastest and the cheapest for each width and cap can ever be
    # chosen, besides the one in force.
    keep = np.zeros(grid.needed_s.shape, dtype=bool)
    for value in (grid.needed_s, grid.row_seconds):
        np.put_along_axis(keep, value.argmin(axis=1, keepdims=True), True, axis=1)
    if stored_draft in grid.draft_lengths:
        keep[:, grid.draft_lengths.index(stored_draft)] = True
    answered = _answered(fleet.answers, widths, tuple(grid.caps.tolist()))
    enough = min(config.min_answered, float(answered.max()))
    keep &= (answered >= enough)[:, None, :]
    return _flatten(fleet, grid, keep, bound, config)


@lru_cache(maxsize=256)
def caps_of(answers: AnswerProfile) -> FloatArray:
    """Caps worth considering, ascending."""
    shortest, longest = np.maximum(answers.length_quantile(CAP_QUANTILES), 1.0)
    return np.ceil(np.geomspace(shortest, longest, NUM_CAPS))


@lru_cache(maxsize=1024)
def _answered(
    answers: AnswerProfile, widths: tuple[int, ...], caps: tuple[float, ...]
) -> FloatArray:
    """`answered_grid`, which jobs of one model share."""
    return answers.answered_grid(widths, np.asarray(caps))


def _widths(config: SchedulerConfig, max_branches: int) -> tuple[int, ...]:
    return tuple(width for width in config.branch_grid if width <= max_branches) or (1,)


def _token_bound(fleet: Fleet, prompt_tokens: float, max_tokens: int | None) -> float:
    """Longest completion that the engines and the client allow."""
    room = max(fleet.max_model_len - prompt_tokens, 1.0)
    return room if max_tokens is None else min(room, float(max_tokens))


def best_plan(
    fleet: Fleet,
    job: JobView,
    config: SchedulerConfig,
    *,
    time_left_s: float,
    ahead_s: float = 0.0,
    other_branches: float = 0.0,
) -> tuple[Plan, Forecast] | None:
    """The most accurate plan whose P95 finish leaves the reserve before the deadline.

    Args:
        ahead_s: Expected seconds for which other work holds the rows.

    Returns:
        The plan and its forecast from now; None when nothing fits.
    """
    options = candidates_of(fleet, job, config, other_branches)
    late_s, limit_s = pessimistic(fleet, ahead_s), time_left_s - config.reserve_s
    index = options.best(options.needed_s + late_s <= limit_s, config)
    if index is None:
        return None
    cut_s = time_left_s - CUT_SHARE * config.reserve_s
    return options.plan(index), options.forecast(index, ahead_s, late_s, cut_s)


def fallback(
    fleet: Fleet,
    job: JobView,
    config: SchedulerConfig,
    *,
    time_left_s: float,
    ahead_s: float = 0.0,
) -> tuple[Plan, Forecast]:
    """A plan for a running job that is short of time: answer what can still be answered.

    Plans that leave more problems without an answer than admission promises come in. Those whose
    P95 fits are preferred, then those whose median fits. Failing that, one branch at the fastest
    draft length is cut where the time ends, and the predicted accuracy counts the share of the
    work that fits in.
    """
    fleet = fleet.informed(job.answers)
    room_s = max(time_left_s - config.reserve_s, 0.0)
    cut_s = max(time_left_s - CUT_SHARE * config.reserve_s, 0.0)
    widths = _widths(config, job.max_branches)
    bound = _token_bound(fleet, job.mean_prompt_tokens, job.max_tokens)
    caps = np.unique(np.floor(np.minimum(caps_of(fleet.answers), bound)))
    grid = forecast_plans(
        fleet,
        num_problems=job.num_pending,
        prompt_tokens=job.mean_prompt_tokens,
        branches=widths,
        draft_lengths=fleet.draft_lengths,
        caps=caps,
        stop_gain=config.stop_gain,
    )
    options = _flatten(fleet, grid, np.ones(grid.p50_s.shape, dtype=bool), bound, config)
    late_s = pessimistic(fleet, ahead_s)
    index = options.best(options.needed_s + late_s <= room_s, config)
    if index is None:
        index = options.best(options.p50_s + ahead_s <= room_s, config)
    if index is not None:
        return options.plan(index), options.forecast(index, ahead_s, late_s, cut_s)
    narrowest = options.plans[:, 0] == options.plans[:, 0].min()
    tpot_s = fleet.tpot_s(fleet.rows, np.asarray(fleet.draft_lengths), job.mean_prompt_tokens)
    cap = float(np.clip(room_s / tpot_s.min(), caps[0], caps[-1]))
    possible = caps[caps <= cap][-1]
    same_cap = narrowest & (np.broadcast_to(grid.caps, grid.p50_s.shape).ravel() == possible)
    index = int(np.flatnonzero(same_cap)[options.p50_s[same_cap].argmin()])
    forecast = options.forecast(index, ahead_s, late_s)
    share = min(1.0, room_s / max(forecast.finish_p50_s, 1e-9))
    return options.plan(index), Forecast(
        forecast.finish_p50_s,
        forecast.finish_p95_s,
        forecast.accuracy * share,
        forecast.row_seconds,
    )


def pessimistic(fleet: Fleet, ahead_s: float) -> float:
    """95th percentile of work ahead, which is slow together when the engine is slow."""
    return ahead_s * (1.0 + Z95 * fleet.residual_sigma)


def _flatten(
    fleet: Fleet,
    grid: ForecastGrid,
    keep: NDArray[np.bool_],
    bound: float,
    config: SchedulerConfig,
) -> Candidates:
    width, draft, cap = np.nonzero(keep)
    beyond = np.full(CUT_STEPS, max(np.floor(bound), grid.caps[-1]))
    # A token less for each step, so that no two candidates are the same plan.
    steps = np.arange(len(grid.caps), 0, -1)
    longer = np.maximum(np.append(grid.caps, beyond)[CUT_STEPS:] - steps, grid.caps)
    is_cut_by_deadline = (grid.needed_s < grid.p95_s)[keep]
    plans = np.stack(
        [
            np.asarray(grid.branches)[width],
            np.asarray(grid.draft_lengths)[draft],
            np.where(is_cut_by_deadline, longer[cap], grid.caps[cap]).astype(np.int64),
        ],
        axis=1,
    )
    # What the deadline cuts runs on until then, under the longer cap.
    last = np.where(is_cut_by_deadline, np.minimum(cap + CUT_STEPS, len(grid.caps) - 1), cap)
    return Candidates(
        p50_s=grid.p50_s[width, draft, last] + config.dispatch_s,
        p95_s=grid.p95_s[width, draft, last] + config.dispatch_s,
        needed_s=grid.needed_s[keep] + config.dispatch_s,
        accuracy=grid.accuracy[keep],
        row_seconds=grid.row_seconds[keep],
        plans=plans,
        wave_rows=fleet.least_rows,
        stop_gain=config.stop_gain,
    )
