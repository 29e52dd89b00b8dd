"""How many rows of its engines a fleet uses: more rows do more work, fewer end each branch sooner.

Theory of operation: rows of one engine slow each other. With few of them a branch that runs ends
before its deadline more often, one that waits starts later. The limit is the number of rows, all of
them or seven tenths, under which most problems are expected to be answered right: those that run,
those that wait, and those that come while problems that come now are open, if as many come as of
late, with as much time each. A fluid model tells, with one branch for each problem. Problems get
rows in order of deadline. Until s from now `mu * s` of them have ended, with
mu = rows / (work of a branch * tpot(rows)), and of class c `rate_c * s` have come, so one that is
due T from now starts at the first s, not before it comes, at which

    running + waiting and due before T + sum over c of rate_c * min(s, T - time_c) - mu * s <= rows

where `time_c` is the time that problems of class c are given. It is right as often as one branch
with a cap of (T - s) / tpot tokens. Of limits that are about as good the one with most rows counts.
No limit is below seven tenths, as the model knows of no bursts: what waits when one comes is in its
way. And none lets a job wait for itself that all rows would take at once: the caps of a plan that
queues cost it more than slower rows do.
"""

from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.capped import whole_branch
from scheduler.core.columns import Batches, Jobs
from scheduler.core.config import SchedulerConfig
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.occupancy import occupancy_of
from scheduler.core.plan import Width
from scheduler.core.snapshot import Arrivals

SHARES = (1.0, 0.5**0.5)
"""Limits, as shares of all rows; lower ones lost under load, see decision 11."""
PER_OCTAVE = 4
"""Steps into which a doubling of the time left is divided."""
INSTANTS = np.array([1 / 6, 1 / 2, 5 / 6])
"""When problems to come are looked at, as shares of the time in which they come."""
PARTS = np.array([1 / 8, 3 / 8, 5 / 8, 7 / 8])
"""Places in line at which alike problems are looked at, as shares of their number."""
PASSES = 5
"""Steps of iterations that come close soon."""
ONE_BRANCH = Width(1)
LEAST_S = 0.1
"""Times left below this are alike."""
TINY = 1e-9


def limited(
    fleet: Fleet,
    jobs: Jobs,
    batches: Batches,
    now: datetime,
    config: SchedulerConfig,
    arrivals: Arrivals,
) -> Fleet:
    """The fleet with the rows that are worth using.

    Args:
        jobs: Jobs with pending problems and time to answer them; without any there is no limit.
        batches: Live batches of the fleet.
        arrivals: Of problems of the model.
    """
    fluid = Fluid(jobs, batches, now.timestamp(), config, arrivals)
    least, number = fleet.rows * SHARES[-1], jobs.columns["num_pending"]
    waits_for_itself = (least < number) & (number <= fleet.rows)
    if not len(jobs) or fluid.wanted <= least or waits_for_itself.any():
        return fleet
    right = fluid.right(fleet.informed(_most_asked(jobs)).pooled)
    enough = right.max() - config.accuracy_tie * fluid.num_weighed
    return fleet.limited(SHARES[int((right >= enough).argmax())])


class Fluid:
    """Problems as a fluid in order of deadline; times are in seconds from now.

    Attributes:
        due_s, come_s, weight, before: Of problems without a row: when they are due and come, their
            number, and how many that are there now and have no row are due before them.
        running, left_s, age_s: Problems with rows, their time left, and since when they run.
        held, wanted: Rows that these hold, and that all problems which are there now want.
        given_s, rate: Classes of arrivals.
    """

    def __init__(
        self,
        jobs: Jobs,
        batches: Batches,
        now_s: float,
        config: SchedulerConfig,
        arrivals: Arrivals,
    ) -> None:
        pending, held = jobs.columns, batches.columns
        waiting, (waiting_s,) = _binned(
            pending["num_pending"], pending["deadline_s"] - now_s - config.reserve_s
        )
        self.running, (self.left_s, self.age_s) = _binned(
            held["num_open_problems"],
            held["deadline_s"] - now_s - config.reserve_s,
            now_s - held["created_s"],
        )
        self.held = float(held["num_open_branches"].sum())
        self.given_s, number = np.array(sorted(arrivals.numbers)).reshape(-1, 2).T
        self.rate = number / arrivals.over_s
        ahead_s = float(self.given_s @ self.rate) / max(float(self.rate.sum()), TINY)
        come_s = np.repeat(INSTANTS * ahead_s, len(self.rate))
        due_s = come_s + np.tile(self.given_s - config.reserve_s, len(INSTANTS))
        to_come = np.tile(self.rate * ahead_s / len(INSTANTS), len(INSTANTS))
        before = np.concatenate([[0.0], waiting.cumsum()])
        # Those that are due together get their rows one after the other.
        parts = len(PARTS)
        self.due_s = np.concatenate([np.repeat(waiting_s, parts), due_s])
        self.come_s = np.concatenate([np.zeros(parts * len(waiting)), come_s])
        self.weight = np.concatenate([np.repeat(waiting / parts, parts), to_come])
        inside = (before[:-1, None] + waiting[:, None] * PARTS).ravel()
        self.before = np.concatenate([inside, before[waiting_s.searchsorted(due_s)]])
        self.wanted = self.held + float(waiting.sum())
        self.num_weighed = float(self.running.sum() + self.weight.sum())

    def right(self, fleet: Fleet) -> FloatArray:
        """Problems expected to be answered right under each limit; (limits,)."""
        table, curve = occupancy_of(fleet.answers, (ONE_BRANCH,)), _tpot_curve(fleet)
        work, context = whole_branch(fleet.answers, float(fleet.max_model_len))
        rows = np.minimum(np.array(SHARES) * fleet.rows, fleet.kv_capacity_tokens / context)
        busy = np.minimum(rows, self.wanted)
        for _ in range(PASSES):
            # Where all find rows, as many are busy as arrivals keep busy.
            kept_busy = self.rate.sum() * work * np.interp(busy, *curve)
            busy = np.minimum(rows, np.maximum(kept_busy, self.wanted))
        tpot_s = np.interp(busy, *curve)
        start_s = self.starts_s(rows[:, None], (busy / (work * tpot_s))[:, None])
        tokens = np.maximum(self.due_s - start_s, 0.0) / tpot_s[:, None]
        right = np.interp(tokens, table.tokens, table.accuracy[0]) @ self.weight
        age, end = (s / tpot_s[:, None] for s in (self.age_s, self.age_s + self.left_s))
        lasts = np.interp(age, table.tokens, table.lasts[0])
        so_far, in_all = (np.interp(x, table.tokens, table.accuracy[0]) for x in (age, end))
        return np.asarray(right + ((in_all - so_far) / np.maximum(lasts, 0.01)) @ self.running)

    def starts_s(self, rows: FloatArray, ended_per_s: FloatArray) -> FloatArray:
        """When problems without a row get one; (limits, problems).

        Args:
            rows, ended_per_s: (limits, 1).
        """
        # Those that come later and are due before come for so long.
        for_s = np.maximum(self.due_s[:, None] - self.given_s, 0.0)  # (problems, classes)
        here = self.held + self.before - rows  # (limits, problems)

        def excess(at_s: FloatArray) -> FloatArray:
            """Problems due before that are too many for the rows at these moments."""
            come = np.minimum(at_s[..., None], for_s) @ self.rate
            return np.asarray(here + come - ended_per_s * at_s)

        start_s = np.maximum(here + for_s @ self.rate, 0.0) / ended_per_s
        for _ in range(PASSES):
            # The excess is concave, so from above Newton's method stays above its last root.
            more_per_s = (for_s >= start_s[..., None]) @ self.rate
            fall = np.maximum(ended_per_s - more_per_s, TINY)
            start_s = np.clip(start_s + excess(start_s) / fall, 0.0, start_s)
        waits = excess(np.broadcast_to(self.come_s, start_s.shape)) > 0.0
        return np.asarray(np.where(waits, np.maximum(start_s, self.come_s), self.come_s))


def _binned(
    number: NDArray[np.int64], left_s: FloatArray, *others: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Numbers of problems with about the same time left, by that, and their mean times."""
    left_s = np.maximum(left_s, LEAST_S)
    which = np.floor(np.log2(left_s / LEAST_S) * PER_OCTAVE).astype(np.int64)
    total = np.bincount(which, number, minlength=1)
    used = total > 0
    means = [
        (np.bincount(which, number * value, minlength=1)[used]) / total[used]
        for value in (left_s, *others)
    ]
    return total[used].astype(np.float64), np.array(means)


def _most_asked(jobs: Jobs) -> AnswerProfile | None:
    """What is known of the task family with most pending problems."""
    total = np.bincount(jobs.columns["family"], jobs.columns["num_pending"])
    most = [jobs.owner.families.keys[i] for i in np.flatnonzero(total == total.max()).tolist()]
    return max(most, key=lambda answers: answers.family if answers else "")


@lru_cache(maxsize=64)
def _tpot_curve(fleet: Fleet) -> tuple[FloatArray, FloatArray]:
    """Busy rows, and seconds per token of one of them with the draft length that is best then."""
    busy = np.geomspace(1.0, fleet.rows, 48)
    _, context = whole_branch(fleet.answers, float(fleet.max_model_len))
    drafts = np.array(fleet.draft_lengths)[:, None]
    return busy, fleet.tpot_s(busy, drafts, context).min(axis=0)
