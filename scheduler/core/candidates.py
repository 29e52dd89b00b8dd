"""Candidates of a job: plans that may be worth choosing, with what they promise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.core.config import SchedulerConfig
from scheduler.core.hulls import LEAST_COST
from scheduler.core.latency import FloatArray
from scheduler.core.plan import Forecast, Plan

WIDEST = 3
"""Multiple of the densest plan's width up to which a plan counts as narrow. Chosen by hand, so that
a vote of three does where the densest plan has one branch; no other value was tried."""
STARTS = np.array([1 / 8, 3 / 8, 5 / 8, 7 / 8])
"""When problems that start one by one are looked at, as shares of the time in which they do."""


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Plans of one job that may be worth choosing, as parallel arrays.

    Attributes:
        p50_s, p95_s: Finish once the job has the rows, as in `ForecastGrid`.
        needed_s: Seconds that must be left once the job has the rows, for the plan to be chosen.
        kept_s: The same for it to be kept: at most its P95 finish, whatever its accuracy counts.
        throughput_s: Seconds until the last problem starts, once the job has the rows.
        cap_s: Seconds from the start of a branch until which accuracy counts.
        runs_on: Whether all branches start at once and may run on beyond it.
        row_seconds: Expected cost if no deadline cuts it, of what runs on too.
        caps: Tokens of a branch until `cap_s`.
        plans: (num_branches, num_speculative_tokens, max_tokens, max_branches); (candidates, 4).
            Where the deadline may cut the branches, the cap lets them run on.
        stop_gains: Of plans that start all branches at once, and of successive ones.
    """

    p50_s: FloatArray
    p95_s: FloatArray
    needed_s: FloatArray
    kept_s: FloatArray
    accuracy: FloatArray
    throughput_s: FloatArray
    cap_s: FloatArray
    runs_on: NDArray[np.bool_]
    row_seconds: FloatArray
    caps: FloatArray
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
    def most_branches(self) -> NDArray[np.int64]:
        """Branches that a problem gets in all at most."""
        return np.asarray(self.plans[:, [0, 3]].max(axis=1))

    @property
    def is_narrowest(self) -> NDArray[np.bool_]:
        """Plans of fewest branches, of which none follow others."""
        return np.asarray(self.most_branches == self.most_branches.min())

    @property
    def branch_cost(self) -> float:
        """Row-seconds of one whole branch for each problem, whatever draft is in force."""
        narrowest = self.is_narrowest
        is_whole = narrowest & (self.caps == self.caps[narrowest].max())
        whole = self.row_seconds[is_whole].min() / self.plans[narrowest, 0].min()
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
        spread_s: float = 0.0,
    ) -> Forecast:
        """What the plan promises when other work takes the rows first.

        Args:
            ahead_s: Expected seconds until the job has the rows.
            delay_p95_s: Pessimistic value of the same.
            limit_s: Seconds until the deadline ends what still runs.
            scale: Problems of the job over those of the candidates, which scales what they cost.
            spread_s: Seconds before that in which its problems start one by one.
        """
        accuracy = float(self.accuracy[index])
        if self.runs_on[index] and limit_s < math.inf:
            accuracy = self._run_on_accuracy(index, limit_s - ahead_s + spread_s * STARTS)
        return Forecast(
            finish_p50_s=min(ahead_s + float(self.p50_s[index]), limit_s),
            finish_p95_s=min(delay_p95_s + float(self.p95_s[index]), limit_s),
            accuracy=accuracy,
            row_seconds=float(self.row_seconds[index]) * scale,
        )

    def _run_on_accuracy(self, index: int, left_s: FloatArray) -> float:
        """Mean accuracy of problems that start with so much time left until the deadline."""
        width, _, longest, most = self.plans[index].tolist()
        alike = np.flatnonzero((self.plans[:, 0] == width) & (self.plans[:, 3] == most))
        alike = alike[self.caps[alike].argsort()]
        cap = float(self.caps[index])
        tokens = np.minimum(left_s * (cap / float(self.cap_s[index])), max(longest, cap))
        reached = np.interp(tokens, self.caps[alike], self.accuracy[alike])
        return float(reached.sum()) / len(reached)

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
