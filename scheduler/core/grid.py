"""The grid of plans that are forecast for a job."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.forecast import ForecastGrid, forecast_plans
from scheduler.core.snapshot import JobView

NUM_CAPS = 20
"""Caps offered, each about a fifth longer than the one before: the error of a cap's accuracy and
time is half a step at most, and candidates cost time."""
CAP_QUANTILES = (0.003, 0.999)
"""The shortest and the longest cap, as shares of branches that finish. Cutting many branches lets
more of them run, of which the shortest finish."""


class Grid(NamedTuple):
    """Which plans are forecast for a job.

    Attributes:
        fleet: Workers with the profile of its task family.
        caps: Ascending.
    """

    fleet: Fleet
    widths: tuple[int, ...]
    caps: tuple[float, ...]

    @classmethod
    def of(cls, fleet: Fleet, job: JobView, config: SchedulerConfig) -> "Grid":
        """The grid of a job."""
        informed = fleet.informed(job.answers)
        widths = tuple(width for width in config.branch_grid if width <= job.max_branches) or (1,)
        caps, bound = _caps_of(informed.answers), token_bound(fleet, job)
        if bound < caps[-1]:
            caps = tuple(np.unique(np.floor(np.minimum(caps, bound))).tolist())
        return cls(informed, widths, caps)

    def forecast(
        self,
        jobs: Sequence[JobView],
        config: SchedulerConfig,
        other_branches: Sequence[float] | None = None,
    ) -> ForecastGrid:
        """Forecast jobs of this grid; arrays get an axis of jobs before the others."""
        return forecast_plans(
            self.fleet,
            num_problems=[job.num_pending for job in jobs],
            prompt_tokens=[job.mean_prompt_tokens for job in jobs],
            branches=self.widths,
            draft_lengths=self.fleet.draft_lengths,
            caps=np.array(self.caps),
            # More than all rows make no difference.
            other_branches=np.minimum(other_branches or 0.0, self.fleet.rows),
            stop_gain=config.stop_gain,
        )


def token_bound(fleet: Fleet, job: JobView) -> float:
    """Longest completion that the engines and the client allow."""
    room = max(fleet.max_model_len - job.mean_prompt_tokens, 1.0)
    return room if job.max_tokens is None else min(room, float(job.max_tokens))


@lru_cache(maxsize=256)
def _caps_of(answers: AnswerProfile) -> tuple[float, ...]:
    """Caps worth considering, ascending."""
    shortest, longest = np.maximum(answers.length_quantile(CAP_QUANTILES), 1.0)
    return tuple(np.unique(np.ceil(np.geomspace(shortest, longest, NUM_CAPS))).tolist())
