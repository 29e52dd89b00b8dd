"""When simulated jobs are submitted, by whom, how large and how urgent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

DAY_S = 86_400.0
_WEEKEND = 0.35
"""Submissions of a Saturday or Sunday, relative to a weekday."""
_NIGHT = 0.08
"""Rate at 3 in the morning, relative to that of 15 o'clock."""


@dataclass(frozen=True, slots=True)
class Habit:
    """One kind of job that is submitted again and again.

    Attributes:
        name: What its jobs are called.
        tenant: Index of who submits it.
        per_day: Mean number of jobs on a weekday.
        num_problems: Least and most, drawn evenly.
        deadlines_s: Drawn from evenly.
        hour: Submitted within the hour that begins then (UTC); over the whole day without one.
        best_effort: Rather what can still be answered than a refusal.
    """

    name: str
    tenant: int
    per_day: float
    num_problems: tuple[int, int]
    deadlines_s: tuple[float, ...]
    hour: int | None = None
    best_effort: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """One submission; `at_s` from the beginning of the history."""

    at_s: float
    habit: Habit
    num_problems: int
    deadline_s: float


def arrivals(
    habits: Sequence[Habit], begin: datetime, days: float, rng: np.random.Generator
) -> list[Arrival]:
    """Submissions in the order of their time: a Poisson process with a daily and a weekly rhythm.

    Drawn at the highest rate of each habit and thinned by what the hour and the day of the week
    leave of it (Lewis and Shedler 1979).
    """
    drawn = []
    for habit in habits:
        peak = habit.per_day / _mean_share(habit)  # jobs per day
        num = rng.poisson(peak * days)
        for at_s in rng.uniform(0.0, days * DAY_S, num).tolist():
            at = begin + timedelta(seconds=at_s)
            if rng.random() < _share(habit, at):
                least, most = habit.num_problems
                drawn.append(
                    Arrival(
                        at_s,
                        habit,
                        int(rng.integers(least, most + 1)),
                        float(rng.choice(habit.deadlines_s)),
                    )
                )
    return sorted(drawn, key=lambda arrival: arrival.at_s)


def _share(habit: Habit, at: datetime) -> float:
    """Rate at an instant relative to the highest."""
    weekly = _WEEKEND if at.weekday() >= 5 else 1.0
    return weekly * _daily(habit, at.hour + at.minute / 60)


def _daily(habit: Habit, hour: float) -> float:
    if habit.hour is not None:
        return float(int(hour) == habit.hour)
    swing = (1.0 + math.cos((hour - 15.0) / 24.0 * math.tau)) / 2.0
    return _NIGHT + (1.0 - _NIGHT) * swing


def _mean_share(habit: Habit) -> float:
    return sum(_daily(habit, hour + 0.5) for hour in range(24)) / 24
