"""What a forecast rests on, and when to doubt it."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet, alive_workers, fleets_by_model
from scheduler.core.snapshot import Snapshot

FEW_PROBLEMS = 50
"""Below this a profile is said to be learned from few problems: the warm-up after which finish
times are expected to hold."""
LARGE_ERROR = 0.03
"""Mean error of the expected accuracy that is told whatever the number of problems."""


@dataclass(frozen=True, slots=True)
class LatencySource:
    """Where the latency of some equal workers comes from; see `LatencyProfile`."""

    num_workers: int
    device: str
    method: str
    measured_at: str


@dataclass(frozen=True, slots=True)
class ForecastBasis:
    """What a model's forecasts rest on.

    Attributes:
        source: Where accuracy and lengths come from, in words.
        num_problems_seen: Problems behind them, 0 for the cold start.
        num_branches_seen: Branches behind them.
        note: Why to doubt the forecast, in words; None when there is no reason.
        latency: Where step times come from, most workers first.
    """

    source: str
    num_problems_seen: int
    num_branches_seen: int
    note: str | None
    latency: tuple[LatencySource, ...]


def fleet_of(snapshot: Snapshot, model: str, config: SchedulerConfig) -> Fleet | None:
    """The alive workers of a model; None when there are none."""
    return fleets_by_model(alive_workers(snapshot.workers, snapshot.now, config)).get(model)


def basis_of(fleet: Fleet) -> ForecastBasis:
    """What forecasts for this fleet rest on."""
    latencies = (member.latency for member in fleet.members)
    counts = Counter((p.device, p.method, p.measured_at) for p in latencies)
    answers = fleet.answers
    return ForecastBasis(
        source=answers.source,
        num_problems_seen=answers.num_problems_seen,
        num_branches_seen=answers.num_branches_seen,
        note=_note(answers),
        latency=tuple(LatencySource(count, *key) for key, count in counts.most_common()),
    )


def _note(answers: AnswerProfile) -> str | None:
    seen = answers.num_problems_seen
    if seen == 0:
        return (
            "Cold start: no solved problem of this model is known, so accuracy and lengths are a"
            " broad guess. Expect the forecast to be wrong until the first jobs are through."
        )
    error = _chance_error(answers)
    points = f"the expected accuracy is off by {max(100.0 * error, 1.0):.0f} points on average"
    if seen < FEW_PROBLEMS:
        noun = "problem" if seen == 1 else "problems"
        return f"Learned from {seen} {noun} only: {points} or more, and finish times with it."
    if error > LARGE_ERROR:
        return f"Learned from {seen} problems: {points}, by which problems they happened to be."
    return None


def _chance_error(answers: AnswerProfile) -> float:
    """Mean error of the accuracy of a branch by the choice of the problems that were seen."""
    shares, p = np.asarray(answers.weights).sum(axis=1), np.asarray(answers.difficulty)
    variance = float(shares @ p**2 - (shares @ p) ** 2)
    # The mean size of a normal error is sqrt(2 / pi) of its deviation.
    return math.sqrt(2.0 / math.pi * variance / answers.num_problems_seen)
