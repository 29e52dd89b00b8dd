"""What each deadline would buy: the frontier of accuracy against time, without running anything.

Theory of operation: a quote weighs one deadline after another on one snapshot, so it promises
exactly what a submission with that deadline at that instant is promised. Admission is not
monotone: a job due a little later stands behind other jobs and may get fewer rows, or none. Answers
that are in time for an early deadline are in time for a later one too, so a deadline is quoted
with the most accurate admission up to it, and says which deadline to submit with.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from scheduler.core.admission import MARGIN_S, Weighed, weigh
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected
from scheduler.core.snapshot import JobView, Snapshot

GRID_POINTS = 16
"""Steps from the earliest finish to the end of growth; most gain something."""
SEARCH_ROUNDS = 10
"""Halvings of the bracket around the deadline that reaches an accuracy: to a thousandth of it."""


@dataclass(frozen=True, slots=True)
class QuotedDeadline:
    """What one deadline buys.

    Attributes:
        deadline_s: Seconds from now.
        submit_deadline_s: Deadline to submit with, in seconds from now, for which `admitted` is the
            verdict: `deadline_s`, or an earlier one that serves better. None when infeasible.
        admitted: None when neither this deadline nor an earlier one that was tried can be met.
    """

    deadline_s: float
    submit_deadline_s: float | None
    admitted: Admitted | None


@dataclass(frozen=True, slots=True)
class Quote:
    """The frontier of a problem set at one instant.

    Attributes:
        earliest_finish_s: Seconds from now of the nearest deadline that can be met.
        deadlines: Ascending; accuracy never falls from one to the next.
        shortest_s: Seconds from now of a deadline that reaches the job's `min_accuracy`, such that
            none shorter by more than the search's resolution was found; None without a
            `min_accuracy`, or when no deadline reaches it.
    """

    earliest_finish_s: float
    deadlines: tuple[QuotedDeadline, ...]
    shortest_s: float | None


def quote(
    snapshot: Snapshot,
    job: JobView,
    config: SchedulerConfig,
    *,
    longest_s: float,
    deadlines_s: Sequence[float] = (),
    with_grid: bool = True,
) -> Quote | Rejected:
    """Quote a job that is not in the snapshot.

    Args:
        job: As for `admit`; its own deadline does not matter.
        longest_s: Longest deadline that may be asked for, in seconds.
        deadlines_s: Deadlines to quote.
        with_grid: Quote deadlines from the earliest finish to where accuracy stops to grow as well,
            each materially more accurate than the one before.

    Returns:
        `Rejected` when nobody serves the model.
    """
    asked = _Asked(snapshot, job, config)
    at_once = asked.verdict(0.0)
    if isinstance(at_once, Rejected):
        if at_once.earliest_finish_s is None:
            return at_once
        earliest_s = at_once.earliest_finish_s
    else:
        earliest_s = at_once.forecast.finish_p95_s
    grid = _grid(asked, earliest_s, longest_s)
    frontier = _frontier(asked, {*grid, *deadlines_s})
    wanted = set(deadlines_s)
    if with_grid:
        in_grid = (point for point in frontier if point.deadline_s in grid)
        wanted.update(_growing(in_grid, config.accuracy_tie))
    return Quote(
        earliest_finish_s=earliest_s,
        deadlines=tuple(point for point in frontier if point.deadline_s in wanted),
        shortest_s=_shortest(asked, frontier, job.min_accuracy),
    )


class _Asked:
    """Admission of one job under any deadline."""

    def __init__(self, snapshot: Snapshot, job: JobView, config: SchedulerConfig) -> None:
        self._snapshot = snapshot
        self._job = job
        self._config = config

    def verdict(self, deadline_s: float) -> Admitted | Rejected:
        return self._weighed(deadline_s).verdict

    def plan_fits_s(self, deadline_s: float) -> float | None:
        """Down to which deadline the plan chosen with this one is, if nothing else changes.

        None where the deadline would be refused.
        """
        weighed = self._weighed(deadline_s)
        verdict, bounds = weighed.verdict, weighed.bounds
        if isinstance(verdict, Rejected) or bounds is None:
            return None
        at = np.array([job.id for job in bounds.jobs].index(self._job.id), ndmin=1)
        slack_s = bounds.fitting_starts_s(at, bounds.chosen[at]) - bounds.before_s()[at]
        to_choose_s = deadline_s - float(slack_s[0]) * bounds.stretch
        finish_p95_s = verdict.forecast.finish_p95_s
        if finish_p95_s < float(bounds.cut_s[at[0]]):
            to_choose_s = max(to_choose_s, finish_p95_s + self._config.reserve_s)
        return to_choose_s + MARGIN_S

    def _weighed(self, deadline_s: float) -> Weighed:
        due_at = self._snapshot.now + timedelta(seconds=deadline_s)
        return weigh(self._snapshot, replace(self._job, deadline_at=due_at), self._config)


def _grid(asked: _Asked, earliest_s: float, longest_s: float) -> set[float]:
    """Deadlines from the earliest finish to one that leaves nothing to be gained."""
    first_s = _round_up(earliest_s)
    last_s = asked.plan_fits_s(longest_s)
    if first_s > longest_s or last_s is None:
        return set()
    last_s = min(max(_round_up(last_s), first_s), longest_s)
    grid = {first_s, last_s}
    for step_s in np.geomspace(first_s, last_s, GRID_POINTS).tolist():
        just_s = asked.plan_fits_s(step_s)
        if just_s is not None:
            grid |= {_round_up(just_s), _round_up(step_s)}
    return {min(deadline_s, longest_s) for deadline_s in grid if deadline_s >= first_s}


def _frontier(asked: _Asked, deadlines_s: Iterable[float]) -> list[QuotedDeadline]:
    """Each deadline with the best admission up to it, ascending."""
    points: list[QuotedDeadline] = []
    best: tuple[float, Admitted] | None = None
    for deadline_s in sorted(deadlines_s):
        verdict = asked.verdict(deadline_s)
        # Of equals the latest: it leaves the scheduler the most freedom.
        if isinstance(verdict, Admitted) and (
            best is None or verdict.forecast.accuracy >= best[1].forecast.accuracy
        ):
            best = deadline_s, verdict
        submit_s, admitted = best if best is not None else (None, None)
        points.append(QuotedDeadline(deadline_s, submit_s, admitted))
    return points


def _growing(frontier: Iterable[QuotedDeadline], accuracy_tie: float) -> Iterator[float]:
    """The first feasible deadline and each that is more accurate than the one before by a tie."""
    reached = -math.inf
    for point in frontier:
        if point.admitted and point.admitted.forecast.accuracy > reached + accuracy_tie:
            yield point.deadline_s
            reached = point.admitted.forecast.accuracy


def _shortest(
    asked: _Asked, frontier: Sequence[QuotedDeadline], min_accuracy: float | None
) -> float | None:
    """The shortest deadline found that reaches the accuracy."""
    if min_accuracy is None:
        return None

    def reaches(admitted: Admitted | Rejected | None) -> bool:
        return isinstance(admitted, Admitted) and admitted.forecast.accuracy >= min_accuracy

    first = next((i for i, point in enumerate(frontier) if reaches(point.admitted)), None)
    if first is None:
        return None
    high_s = frontier[first].deadline_s
    if first == 0:
        return high_s
    low_s = frontier[first - 1].deadline_s
    for _ in range(SEARCH_ROUNDS):
        middle_s = 0.5 * (low_s + high_s)
        if reaches(asked.verdict(middle_s)):
            high_s = middle_s
        else:
            low_s = middle_s
    return high_s


def _round_up(seconds: float) -> float:
    """To three digits, which people can type."""
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 2)
    # A quotient of 25.4 / 0.1 may come out a hair above 254.
    return round(math.ceil(seconds / unit - 1e-9) * unit, 9)
