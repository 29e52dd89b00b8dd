"""Plans as integers: which are the same or alike, for many at once."""

import numpy as np
from numpy.typing import NDArray

from scheduler.core.plan import Plan

IntArray = NDArray[np.int64]

NO_CODE = np.iinfo(np.int64).max
CAP_MASK = (1 << 32) - 1
CAP_SLACK = 1.25
"""Token caps within this factor count as the same plan: caps of late jobs shrink steadily."""


def plan_code(plans: IntArray) -> IntArray:
    """What makes `Candidates.plans` candidates, in one integer: the cap in the lower 32 bits."""
    width, draft, cap, most = plans.T
    return np.asarray(most << 48 | width << 40 | draft << 32 | cap)


def code_of(plan: Plan) -> int:
    """`plan_code` of one plan."""
    high = plan.max_branches << 16 | plan.num_branches << 8 | plan.num_speculative_tokens
    return high << 32 | plan.max_tokens


def are_similar(stored: IntArray, today: IntArray) -> NDArray[np.bool_]:
    """Whether these codes have the same widths and draft lengths, and nearly the same caps."""
    stored_cap, today_cap = stored & CAP_MASK, today & CAP_MASK
    is_near = (stored_cap <= today_cap * CAP_SLACK) & (today_cap <= stored_cap * CAP_SLACK)
    return np.asarray(((stored ^ today) & ~CAP_MASK == 0) & is_near)


def is_similar(stored: Plan, today: Plan) -> bool:
    """`are_similar` for two plans."""
    return bool(are_similar(*(np.array([code_of(plan)]) for plan in (stored, today)))[0])
