"""What was submitted of late in a simulation, summed up as it comes and goes."""

from collections import deque

from scheduler.core.simulation.world import SimulatedJob
from scheduler.core.snapshot import ARRIVAL_WINDOW_S, Arrivals, octave_of

Sums = dict[int, tuple[float, int]]
"""By octave of the seconds given until the deadline: these, summed over problems, and problems."""


class RecentJobs:
    """Jobs of one model that came within `ARRIVAL_WINDOW_S`, in order of arrival."""

    def __init__(self) -> None:
        self._jobs = deque[tuple[SimulatedJob, bool]]()
        self._all: Sums = {}
        self._promised: Sums = {}

    def add(self, job: SimulatedJob, *, is_promised: bool) -> None:
        """Count a job that comes now."""
        self._jobs.append((job, is_promised))
        self._count(job, is_promised, 1)

    def arrivals(self, now_s: float) -> Arrivals:
        """What they add up to, as in the store."""
        while self._jobs and self._jobs[0][0].arrival_s <= now_s - ARRIVAL_WINDOW_S:
            job, is_promised = self._jobs.popleft()
            self._count(job, is_promised, -1)
        first_s = now_s - self._jobs[0][0].arrival_s if self._jobs else 0.0
        return Arrivals.since(first_s, _means(self._all), _means(self._promised))

    def _count(self, job: SimulatedJob, is_promised: bool, sign: int) -> None:
        given_s, number = job.deadline_s - job.arrival_s, sign * len(job.problems)
        octave = octave_of(given_s)
        for sums in (self._all, self._promised) if is_promised else (self._all,):
            seconds, count = sums.get(octave, (0.0, 0))
            if count + number:
                sums[octave] = seconds + number * given_s, count + number
            else:
                del sums[octave]


def _means(sums: Sums) -> list[tuple[float, int]]:
    return [(seconds / count, count) for seconds, count in sums.values()]
