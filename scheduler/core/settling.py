"""Which stored plans stay: changes must pay, or be needed.

Theory of operation: after `upgrade` each job has the plan that it would get today. Its stored plan
stays unless it would be late, or today's is materially more accurate or materially cheaper. Stored
plans that cost less than today's stay freely; those that cost more stay in order of deadline as
long as all bounds hold, so plans in force never break them.
"""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.bounds import LATE, Bounds
from scheduler.core.decisions import PlanReason
from scheduler.core.menus import IntArray, code_of
from scheduler.core.moves import take_moves
from scheduler.core.plan import Plan

COST_SLACK = 1.25
"""A stored plan costing more than this multiple of the new one is dropped: others need the rows."""
CAP_SLACK = 1.25
"""Token caps within this factor count as the same plan: caps of late jobs shrink steadily."""
CAP_MASK = (1 << 32) - 1

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
    fits = bounds.must_starts_s(jobs, candidate) >= bounds.before_s()[jobs]
    reasons[jobs] = reason = np.select(
        [
            plan_code < 0,
            today == LATE,
            _are_similar(plan_code, bounds.menus.code[bounds.classes[jobs], now]),
            ~found,
            ~fits,
            gain >= bounds.config.replan_gain,
            stored_cost_s > COST_SLACK * cost_s,
        ],
        [1, 0, 0, 2, 3, 4, 5],
        default=0,
    )
    kept = found & (reason == 0) & fits
    is_cheaper = stored_cost_s <= cost_s
    bounds.choose(jobs[kept & is_cheaper], stored[kept & is_cheaper])
    bounds.ceiling[:] = np.inf
    dearer, plans = jobs[kept & ~is_cheaper], stored[kept & ~is_cheaper]
    take_moves(bounds, dearer, plans)
    reasons[dearer[bounds.chosen[dearer] != plans]] = 5
    return reasons


def is_similar(stored: Plan, today: Plan) -> bool:
    """Same width and draft length, and nearly the same cap."""
    return bool(_are_similar(*(np.array([code_of(plan)]) for plan in (stored, today)))[0])


def _are_similar(stored: IntArray, today: IntArray) -> NDArray[np.bool_]:
    stored_cap, today_cap = stored & CAP_MASK, today & CAP_MASK
    is_near = (stored_cap <= today_cap * CAP_SLACK) & (today_cap <= stored_cap * CAP_SLACK)
    return np.asarray(((stored ^ today) & ~CAP_MASK == 0) & is_near)
