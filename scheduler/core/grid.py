"""The grid of plans that are forecast for a job."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import ForecastGrid, forecast_plans
from scheduler.core.occupancy import occupancy_of
from scheduler.core.plan import MOST_FOR_ONE_VOTE, Width
from scheduler.core.snapshot import JobView
from scheduler.core.successive import cut_tokens, whole_tokens
from scheduler.core.votes import MAX_BRANCHES

NUM_CAPS = 20
"""Caps offered, each about a fifth longer than the one before: the error of a cap's accuracy and
time is half a step at most, and candidates cost time."""
CAP_QUANTILES = (0.003, 0.999)
"""The shortest and the longest cap, as shares of branches that finish. Cutting many branches lets
more of them run, of which the shortest finish."""
SPARING = ((1, MOST_FOR_ONE_VOTE), (2, 3), (3, 5))
"""Branches at once, and in all, that every job is offered if the first number of them is. A second
branch follows only where the first gave no answer; those that could not change a unanimous vote
take the places of the first to end, and are stopped where it is one."""
FEW = 4.0
"""More that follow one another are offered where the bound on tokens cuts hardly any, and a problem
takes no more than so many mean branches or votes leave at most `ERRORS_LEFT`. Where votes stay open
and settle little (multiple choice), branches side by side, of which the first to end are right more
often, were as accurate for fewer tokens."""
ERRORS_LEFT = 0.5
"""Share of the errors of one branch; on recordings of multiple choice 0.77 to 0.96 are left, else
0.33 to 0.69, of the demo model 0.39."""


class Grid(NamedTuple):
    """Which plans are forecast for a job.

    Attributes:
        fleet: Workers with the profile of its task family.
        widths: Successive ones last.
        caps: Ascending.
        cut: Tokens at which the engines or the client cut branches that follow one another.
    """

    fleet: Fleet
    widths: tuple[Width, ...]
    caps: tuple[float, ...]
    cut: float

    @classmethod
    def of(cls, fleet: Fleet, job: JobView, config: SchedulerConfig) -> "Grid":
        """The grid of a job."""
        informed = fleet.informed(job.answers)
        caps, bound = _caps_of(informed.answers), token_bound(fleet, job)
        is_whole = bound >= whole_tokens(informed.answers)
        in_turn = is_whole and _settles(informed.answers, config)
        widths = _widths_of(config, job.max_branches, in_turn)
        if bound < caps[-1]:
            caps = tuple(np.unique(np.floor(np.minimum(caps, bound))).tolist())
        return cls(informed, widths, caps, cut_tokens(informed.answers, bound))

    def forecast(
        self,
        jobs: Sequence[JobView],
        other_branches: Sequence[float] | None = None,
    ) -> ForecastGrid:
        """Forecast jobs of this grid; arrays get an axis of jobs before the others."""
        return forecast_plans(
            self.fleet,
            num_problems=[job.num_pending for job in jobs],
            prompt_tokens=[job.mean_prompt_tokens for job in jobs],
            widths=self.widths,
            draft_lengths=self.fleet.draft_lengths,
            caps=np.array(self.caps),
            cut=self.cut,
            # More than all rows make no difference.
            other_branches=np.minimum(other_branches or 0.0, self.fleet.rows),
        )


def token_bound(fleet: Fleet, job: JobView) -> float:
    """Longest completion that the engines and the client allow."""
    room = max(fleet.max_model_len - job.mean_prompt_tokens, 1.0)
    return room if job.max_tokens is None else min(room, float(job.max_tokens))


@lru_cache(maxsize=256)
def _settles(answers: AnswerProfile, config: SchedulerConfig) -> bool:
    """Whether branches that follow one another settle most problems, or soon."""
    most = max((most for _, most in config.successive_grid), default=0)
    in_turn = Width(1, config.branch_gain, min(most, MAX_BRANCHES))
    if not in_turn.is_successive:
        return False
    table = occupancy_of(answers, (Width(1), in_turn))
    work, errors = table.work[:, -1], 1.0 - table.accuracy[:, -1]
    return bool(work[1] <= FEW * work[0] or errors[1] <= ERRORS_LEFT * errors[0])


@lru_cache(maxsize=256)
def _widths_of(config: SchedulerConfig, max_branches: int, in_turn: bool) -> tuple[Width, ...]:
    """Widths of at most so many branches.

    Args:
        in_turn: Whether with all successive ones.
    """
    at_once = [number for number in config.branch_grid if number <= max_branches] or [1]
    sparing = (pair for pair in SPARING if pair[0] in at_once)
    offered = (*sparing, *(config.successive_grid if in_turn else ()))
    pairs = dict.fromkeys((rows, min(most, max_branches, MAX_BRANCHES)) for rows, most in offered)
    return (
        *(Width(number, config.stop_gain) for number in at_once),
        *(Width(rows, config.branch_gain, most) for rows, most in pairs if rows < most),
    )


@lru_cache(maxsize=256)
def _caps_of(answers: AnswerProfile) -> tuple[float, ...]:
    """Caps worth considering, ascending."""
    shortest, longest = np.maximum(answers.length_quantile(CAP_QUANTILES), 1.0)
    return tuple(np.unique(np.ceil(np.geomspace(shortest, longest, NUM_CAPS))).tolist())
