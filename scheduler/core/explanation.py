"""Why a plan is in force: one decision on one job as plain values."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from scheduler.core.basis import ForecastBasis
from scheduler.core.plan import Forecast, Plan


class Fate(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    TOO_LATE = "too_late"
    """It needs more than the time left less the reserve."""
    TOO_WIDE = "too_wide"
    """In time, but the job waits for others, and no plan with fewer branches is in time."""
    ROWS_NEEDED = "rows_needed"
    """More accurate and in time, but other jobs need the rows or gain more from them."""
    TOO_DEAR = "too_dear"
    """More accurate and in time, by less than its further branches must be worth."""
    NOT_WORTH_CHANGING = "not_worth_changing"
    """More accurate than the plan in force, by less than what a change of plan takes."""
    NO_GAIN = "no_gain"
    """As accurate as the chosen plan within what a profile can tell apart, and not cheaper."""
    LESS_ACCURATE = "less_accurate"
    """Earlier or cheaper than the chosen plan, and less accurate."""
    DOMINATED = "dominated"
    """Less accurate than the chosen plan, and neither earlier nor cheaper."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate with its forecast; units as in `Forecast`.

    Attributes:
        finish_p50_s, finish_p95_s: With the work ahead, that which is expected to come and go first
            as it delays the chosen plan, and that which will slow the engine beside this one.
        needed_s: Seconds that must be left for it to be chosen: of queues those of its P95 finish,
            else those until which its accuracy counts. A finish may be earlier, and is unbounded by
            the deadline if it is too late.
        accuracy: Of what ends within these seconds, by which plans are compared. The forecast of
            the chosen one also counts what ends later and before the deadline.
    """

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    max_branches: int
    finish_p50_s: float
    finish_p95_s: float
    needed_s: float
    accuracy: float
    row_seconds: float
    fate: Fate


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision on one job.

    Attributes:
        num_workers, rows, draft_lengths: The fleet.
        num_problems: Problems that the plan is for.
        num_jobs_ahead: Jobs with pending problems that get rows first.
        ahead_s: Expected seconds for which other work holds the rows first.
        ahead_p95_s: 95th percentile of the same.
        reserve_s: Seconds of the time left that no plan may use.
        num_candidates: Plans weighed.
        num_in_time: Those of them for which the time left suffices, without those too wide.
        is_in_time: Whether the plan in force is one of them.
        candidates: An extract, by the seconds that must be left for them.
    """

    basis: ForecastBasis
    num_workers: int
    rows: int
    draft_lengths: tuple[int, ...]
    num_problems: int
    mean_prompt_tokens: float
    num_jobs_ahead: int
    ahead_s: float
    ahead_p95_s: float
    time_left_s: float
    reserve_s: float
    num_candidates: int
    num_in_time: int
    is_in_time: bool
    plan: Plan
    forecast: Forecast
    candidates: tuple[Considered, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, rounded, small enough for an event."""
        rounded = _rounded(asdict(self))
        assert isinstance(rounded, dict)
        return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(item) for item in value]
    return value
