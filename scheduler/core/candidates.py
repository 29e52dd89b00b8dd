"""Candidates of a job: plans that may be worth choosing, with what they promise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import ForecastGrid
from scheduler.core.grid import Grid, token_bound
from scheduler.core.hulls import LEAST_COST
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Forecast, Plan, Width
from scheduler.core.snapshot import JobView

CUT_STEPS = 4
"""Where the deadline cuts the branches, the cap is so many steps longer, about twice as long: the
engine may be faster than forecast with all rows busy, and the deadline bounds what is lost."""
WIDEST = 3
"""Multiple of the densest plan's width up to which a plan counts as narrow. Chosen by hand, so that
a vote of three does where the densest plan has one branch; no other value was tried."""
MAX_TOGETHER = 16
"""Jobs forecast at once at most: their arrays stay in the processor's cache."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Plans of one job that may be worth choosing, as parallel arrays.

    Attributes:
        p50_s, p95_s: Finish once the job has the rows, as in `ForecastGrid`.
        needed_s: Seconds that must be left once the job has the rows.
        longer_s, longer_accuracy: `needed_s` and `accuracy` of the next longer cap where the
            deadline may cut the branches, else the same once more.
        row_seconds: Cost.
        plans: (num_branches, num_speculative_tokens, max_tokens, max_branches); (candidates, 4).
            Where the deadline may cut the branches, the cap leaves room for a faster engine.
        stop_gains: Of plans that start all branches at once, and of successive ones.
    """

    p50_s: FloatArray
    p95_s: FloatArray
    needed_s: FloatArray
    accuracy: FloatArray
    longer_s: FloatArray
    longer_accuracy: FloatArray
    row_seconds: FloatArray
    plans: NDArray[np.int64]
    wave_rows: int
    stop_gains: tuple[float, float]

    @property
    def is_narrow(self) -> NDArray[np.bool_]:
        """Plans at most `WIDEST` times as wide as the one with most accuracy per row-second."""
        width = self.plans[:, 0]
        densest = (self.accuracy / np.maximum(self.row_seconds, LEAST_COST)).argmax()
        return np.asarray(width <= WIDEST * width[densest])

    @property
    def is_narrowest(self) -> NDArray[np.bool_]:
        """Plans of fewest branches, of which none follow others."""
        most = self.plans[:, [0, 3]].max(axis=1)
        return np.asarray(most == most.min())

    @property
    def branch_cost(self) -> float:
        """Row-seconds of one whole branch for each problem."""
        narrowest = self.is_narrowest
        whole = self.row_seconds[narrowest].max() / self.plans[narrowest, 0].min()
        return max(float(whole), LEAST_COST)

    def plan(self, index: int) -> Plan:
        """The plan at a position; a batch of it fills about half of a worker's rows."""
        width, draft, cap, most = self.plans[index].tolist()
        wave_size = max(1, self.wave_rows // (2 * width))
        return Plan(width, draft, cap, wave_size, self.stop_gains[most > width], most)

    def forecast(
        self,
        index: int,
        ahead_s: float,
        delay_p95_s: float,
        limit_s: float = math.inf,
        scale: float = 1.0,
    ) -> Forecast:
        """What the plan promises when other work takes the rows first.

        Where the deadline cuts the branches, between two caps, accuracy lies between theirs.

        Args:
            ahead_s: Expected seconds until the job has the rows.
            delay_p95_s: Pessimistic value of the same.
            limit_s: Seconds until the deadline ends what still runs.
            scale: Problems of the job over those of the candidates, which scales what they cost.
        """
        accuracy, needed_s = float(self.accuracy[index]), float(self.needed_s[index])
        added_s = float(self.longer_s[index]) - needed_s
        if added_s > 0.0 and limit_s < math.inf:
            share = min(max((limit_s - ahead_s - needed_s) / added_s, 0.0), 1.0)
            accuracy += share * (float(self.longer_accuracy[index]) - accuracy)
        return Forecast(
            finish_p50_s=min(ahead_s + float(self.p50_s[index]), limit_s),
            finish_p95_s=min(delay_p95_s + float(self.p95_s[index]), limit_s),
            accuracy=accuracy,
            row_seconds=float(self.row_seconds[index]) * scale,
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
        width, drafts = plan.num_branches, plan.num_speculative_tokens
        key = (width, drafts, plan.max_tokens, plan.max_branches)
        found = np.flatnonzero((self.plans == key).all(axis=1))
        return int(found[0]) if found.size else None


def candidates_of(
    fleet: Fleet, job: JobView, config: SchedulerConfig, other_branches: float = 0.0
) -> Candidates:
    """Candidates of a job with pending problems that may be promised: most problems get an answer.

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
    beyond = np.broadcast_to(bounds[:, None], (len(jobs), CUT_STEPS))
    # A token less for each step, so that no two candidates are the same plan.
    steps = np.arange(len(caps), 0, -1)
    longer = np.concatenate([np.broadcast_to(caps, (len(jobs), len(caps))), beyond], axis=1)
    longer = np.maximum(longer[:, CUT_STEPS:] - steps, caps)
    needed_s, p95_s = forecast.needed_s[keep], forecast.p95_s[keep]
    is_cut_by_deadline = needed_s < p95_s
    in_turn = np.array([one.is_successive for one in forecast.widths])[width]
    longest = np.where(in_turn, np.maximum(bounds[job] - steps[cap], 1), longer[job, cap])
    plans = np.stack(
        [
            np.array([width.num_branches for width in forecast.widths])[width],
            np.asarray(forecast.draft_lengths)[draft],
            np.where(is_cut_by_deadline | in_turn, longest, caps[cap]).astype(np.int64),
            np.array([width.max_branches for width in forecast.widths])[width],
        ],
        axis=1,
    )
    # What the deadline cuts runs on until then, under the longer cap; branches that follow others
    # run on until the vote is clear.
    later = np.minimum(cap + CUT_STEPS, last_cap)
    last = np.where(in_turn, last_cap, np.where(is_cut_by_deadline, later, cap))
    next_cap = np.where(is_cut_by_deadline, np.minimum(cap + 1, last_cap), cap)
    longer_s = forecast.needed_s[job, width, draft, next_cap] + config.dispatch_s
    longer_accuracy = forecast.accuracy[job, width, draft, next_cap]
    p50_s = forecast.p50_s[job, width, draft, last] + config.dispatch_s
    p95_s = forecast.p95_s[job, width, draft, last] + config.dispatch_s
    accuracy, row_seconds = forecast.accuracy[keep], forecast.row_seconds[keep]
    row_seconds = np.where(in_turn, forecast.row_seconds[job, width, draft, later], row_seconds)
    needed_s = needed_s + config.dispatch_s
    ends = np.searchsorted(job, np.arange(len(jobs)), side="right").tolist()
    return [
        Candidates(
            p50_s=p50_s[own],
            p95_s=p95_s[own],
            needed_s=needed_s[own],
            accuracy=accuracy[own],
            longer_s=longer_s[own],
            longer_accuracy=longer_accuracy[own],
            row_seconds=row_seconds[own],
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
    # Of the draft lengths only the fastest and the cheapest for each width and cap can ever be
    # chosen, besides the one in force.
    keep = np.zeros(forecast.needed_s.shape, dtype=bool)
    for value in (forecast.needed_s, forecast.row_seconds):
        np.put_along_axis(keep, value.argmin(axis=2, keepdims=True), True, axis=2)
    for index, job in enumerate(jobs):
        if job.plan and job.plan.num_speculative_tokens in forecast.draft_lengths:
            keep[index, :, forecast.draft_lengths.index(job.plan.num_speculative_tokens)] = True
    answered = _answered(grid.fleet.answers, grid.widths, grid.caps)
    enough = min(config.min_answered, float(answered.max()))
    keep &= (answered >= enough)[:, None, :]
    return flatten(grid, forecast, keep, jobs, config)


@lru_cache(maxsize=1024)
def _answered(
    answers: AnswerProfile, widths: tuple[Width, ...], caps: tuple[float, ...]
) -> FloatArray:
    """`answered_grid`, which jobs of one model share; of successive widths of the first ones."""
    tokens = np.asarray(caps)
    answered = answers.answered_grid(tuple(width.num_branches for width in widths), tokens)
    for row, width in enumerate(widths):
        if width.is_successive:
            answered[row] = np.interp(width.rounds * tokens, tokens, answered[row])
    return answered
