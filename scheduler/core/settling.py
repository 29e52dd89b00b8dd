"""Which stored plans stay: changes must pay, or be needed.

Theory of operation: after `upgrade` each job has the plan that it would get today. Its stored plan
stays unless it would be late, or today's is materially more accurate, or as accurate and materially
cheaper. Stored plans that cost less than today's stay freely; those that cost more stay in order of
deadline as long as all bounds hold, so plans in force never break them.

Better plans come first from rows that nobody has. That jobs reviewed together *trade*, some going
down so that others go up, must gain materially per problem whose plan changes: rows shared out anew
among whoever is reviewed together made 40% of the reviewed plans of a crowd change in every tick.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.decisions import PlanReason
from scheduler.core.moves import Movers, is_offered
from scheduler.core.plan_codes import are_similar

COST_SLACK = 1.25
"""A stored plan that costs more than this multiple of the new one and gains nothing is dropped."""

REASONS = (
    None,
    PlanReason.FIRST_PLAN,
    PlanReason.NO_LONGER_OFFERED,
    PlanReason.WOULD_BE_LATE,
    PlanReason.MORE_ACCURATE,
    PlanReason.ROWS_NEEDED,
)


def settle(bounds: Bounds) -> NDArray[np.int64]:
    """Put stored plans of open jobs back in force where they stay.

    Returns:
        For each job why its plan changes, as a position in `REASONS`, 0 where it stays. Late jobs
        are told apart elsewhere.
    """
    reasons = np.zeros(len(bounds.jobs), dtype=np.int64)
    jobs = np.flatnonzero(bounds.is_open)
    plan_code, stored, today = (
        bounds.table["plan_code"][jobs],
        bounds.stored[jobs],
        bounds.chosen[jobs],
    )
    found = (today != LATE) & (stored >= 0)
    candidate, now = np.maximum(stored, 0), np.maximum(today, 0)
    gain = bounds.accuracies(jobs, now) - bounds.accuracies(jobs, candidate)
    stored_cost_s, cost_s = bounds.costs_s(jobs, candidate), bounds.cost_s[jobs]
    # Rows that nobody else took are no reason to give a plan up, unless it gains nothing by them.
    gains_nothing = (gain >= -bounds.config.accuracy_tie) | ~is_offered(bounds, jobs, candidate)
    fits = bounds.must_starts_s(jobs, candidate) >= bounds.before_s()[jobs]
    reason = np.select(
        [
            plan_code < 0,
            today == LATE,
            are_similar(plan_code, bounds.menus.code[bounds.classes[jobs], now]),
            ~found,
            ~fits,
            gain >= bounds.config.replan_gain,
            gains_nothing & (stored_cost_s > COST_SLACK * cost_s),
        ],
        [1, 0, 0, 2, 3, 4, 5],
        default=0,
    )
    is_better = (reason == 4) & (stored_cost_s < cost_s)
    kept = found & (reason == 0) & fits
    bounds.ceiling[:] = np.inf
    values = bounds.values[jobs]

    def put_back(returning: NDArray[np.bool_]) -> float:
        """Put the stored plans of these jobs back where the bounds allow, to the value of all."""
        bounds.choose(jobs[found], today[found])
        is_cheaper = returning & (stored_cost_s <= cost_s)
        bounds.choose(jobs[is_cheaper], stored[is_cheaper])
        dearer = np.flatnonzero(returning & ~is_cheaper)
        movers = Movers(bounds, jobs)
        movers.take(movers.moves(dearer, stored[dearer], are_kept=True))
        better = np.flatnonzero(returning & is_better)
        rate = values[better] * gain[better] / (cost_s - stored_cost_s)[better]
        better = better[np.argsort(-rate, kind="stable")]
        movers.take(movers.moves(better, today[better], are_kept=True))
        reached = bounds.accuracies(jobs[found], bounds.chosen[jobs[found]])
        return float(values[found] @ reached)

    with_trades = put_back(kept)
    if is_better.any():
        traded = bounds.chosen[jobs]
        without = put_back(kept | is_better)
        is_traded = (traded != stored) & (bounds.chosen[jobs] == stored)
        if with_trades - without > bounds.config.replan_gain * values[is_traded].sum():
            bounds.choose(jobs[found], traded[found])
    stays = found & (bounds.chosen[jobs] == stored)
    reasons[jobs] = np.where(stays, 0, np.where(kept, 5, reason))
    return reasons
