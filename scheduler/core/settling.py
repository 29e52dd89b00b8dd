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
from scheduler.core.menus import IntArray, plan_code
from scheduler.core.plan import Plan
from scheduler.core.upgrades import take_moves

COST_SLACK = 1.25
"""A stored plan costing more than this multiple of the new one is dropped: others need the rows."""
CAP_SLACK = 1.25
"""Token caps within this factor count as the same plan: caps of late jobs shrink steadily."""
CAP_MASK = (1 << 32) - 1

_CODES = {
    0: None,
    1: PlanReason.FIRST_PLAN,
    2: PlanReason.NO_LONGER_OFFERED,
    3: PlanReason.WOULD_BE_LATE,
    4: PlanReason.MORE_ACCURATE,
    5: PlanReason.ROWS_NEEDED,
}


def settle(bounds: Bounds) -> list[PlanReason | None]:
    """Put stored plans back in force where they stay.

    Returns:
        For each job why its plan changes, None where it stays. Late jobs are told apart elsewhere.
    """
    table, stored, today = bounds.table, bounds.stored, bounds.chosen.copy()
    jobs = np.arange(len(today))
    planned = (today != LATE) & (table["plan_code"] >= 0)
    found = planned & (stored >= 0)
    candidate, now = np.maximum(stored, 0), np.maximum(today, 0)
    gain = bounds.accuracies(jobs, now) - bounds.accuracies(jobs, candidate)
    stored_cost_s, cost_s = bounds.costs_s(jobs, candidate), bounds.cost_s.copy()
    fits = bounds.must_starts_s(jobs, candidate) >= bounds.before_s()
    reason = np.select(
        [
            table["plan_code"] < 0,
            today == LATE,
            _are_similar(table["plan_code"], bounds.menus.code[bounds.classes, now]),
            ~found,
            ~fits,
            gain >= bounds.config.replan_gain,
            stored_cost_s > COST_SLACK * cost_s,
        ],
        [1, 0, 0, 2, 3, 4, 5],
        default=0,
    )
    kept = found & (reason == 0) & fits
    cheaper = np.flatnonzero(kept & (stored_cost_s <= cost_s))
    bounds.choose(cheaper, stored[cheaper])
    dearer = np.flatnonzero(kept & (stored_cost_s > cost_s))
    bounds.ceiling = np.full(len(jobs), np.inf)
    take_moves(bounds, dearer, stored[dearer])
    gives_way = dearer[bounds.chosen[dearer] != stored[dearer]]
    reason[gives_way] = 5
    return [_CODES[code] for code in reason.tolist()]


def is_similar(stored: Plan, today: Plan) -> bool:
    """Same width and draft length, and nearly the same cap."""
    return bool(_are_similar(*(np.array([_code(plan)]) for plan in (stored, today)))[0])


def _code(plan: Plan) -> int:
    return int(plan_code(plan.num_branches, plan.num_speculative_tokens, plan.max_tokens))


def _are_similar(stored: IntArray, today: IntArray) -> NDArray[np.bool_]:
    stored_cap, today_cap = stored & CAP_MASK, today & CAP_MASK
    is_near = (stored_cap <= today_cap * CAP_SLACK) & (today_cap <= stored_cap * CAP_SLACK)
    return np.asarray(((stored ^ today) & ~CAP_MASK == 0) & is_near)
