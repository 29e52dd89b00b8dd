"""Decisions in plain words."""

from collections.abc import Mapping
from typing import Any

from api.schemas.explanations import CandidateOut, DecisionOut, SecondsOut
from scheduler.core.decisions import LossReason, PlanReason, RiskReason
from scheduler.core.event_kinds import ENDS, EventKind
from scheduler.core.explanation import Fate
from scheduler.core.states import ProblemState

_REASONS = {
    PlanReason.FIRST_PLAN: "the first plan",
    PlanReason.DEADLINE_AT_RISK: "no plan finishes in time with 95% any more, so this one answers"
    " what can still be answered",
    PlanReason.BEST_EFFORT: "nothing was promised, so this one answers what it can with the rows"
    " that other jobs leave",
    PlanReason.NO_LONGER_OFFERED: "workers, their profiles or the scheduler changed, and the plan"
    " before is no candidate now",
    PlanReason.WOULD_BE_LATE: "the plan before would no longer finish in time with 95%",
    PlanReason.MORE_ACCURATE: "there is room for a more accurate plan",
    PlanReason.ROWS_NEEDED: "it costs less, and other jobs need the rows",
}
_LOSSES = {
    LossReason.LEASE_OVER: "did not renew its lease",
    LossReason.WORKER_GONE: "is gone",
    LossReason.WORKER_RESTARTED: "was restarted",
    LossReason.MODEL_CHANGED: "serves another model now",
    LossReason.NOTHING_OPEN: "had nothing to do",
    LossReason.GIVEN_BACK: "shut down",
}
_RISKS = {
    RiskReason.NO_WORKER: "no worker serves the model",
    RiskReason.TOO_LATE: "even the quickest plan would end after the deadline with 5%",
    RiskReason.OVERDUE: "the last problems take longer than predicted",
}
_TERMS = {"deadline_at": "deadline", "weight": "weight"}
_ENDS = {"num_answered": "answered", "num_degraded": "of them cut short by the deadline"} | {
    f"num_{state}": state for state in ("expired", "failed", "cancelled")
}


def why_words(decision: DecisionOut) -> str:
    """Why the plan won."""
    if not decision.is_in_time and decision.num_in_time:
        return "This plan would no longer finish in time with 95%; the next tick changes it."
    fates = {candidate.fate for candidate in decision.candidates}
    if Fate.TOO_WIDE in fates:
        return (
            "Behind other work only plans of many branches would finish in time, which would keep"
            " many rows for few answers, so this one answers what can still be answered."
        )
    if not decision.is_in_time:
        return (
            "No plan finishes in time with 95%, so this one answers what can still be answered"
            " before the deadline."
        )
    words = (
        f"Of {decision.num_candidates} plans {decision.num_in_time} finish in time with 95%."
        " This one is "
    )
    if Fate.ROWS_NEEDED in fates:
        return words + (
            "the best that leaves other jobs the rows they need or gain more from; more accurate"
            " plans would be in time, too."
        )
    if Fate.TOO_DEAR in fates:
        return words + "the most accurate whose branches are worth what they cost."
    if Fate.NO_GAIN in fates:
        return words + "the cheapest of the most accurate."
    return words + "the most accurate of them."


def fate_words(candidate: CandidateOut, chosen: SecondsOut, decision: DecisionOut) -> str:
    """What speaks against a candidate, or for it."""
    points = 100.0 * (candidate.accuracy - chosen.accuracy)
    match candidate.fate:
        case Fate.CHOSEN:
            return "in force"
        case Fate.TOO_LATE:
            late_s = candidate.needed_s - (decision.time_left_s - decision.reserve_s)
            return f"too late by {late_s:.1f} s"
        case Fate.TOO_WIDE:
            return "in time, but too wide while others wait"
        case Fate.ROWS_NEEDED:
            return f"{points:.1f} points more accurate, but others need the rows"
        case Fate.TOO_DEAR:
            return f"{points:.1f} points more accurate, too little for its branches"
        case Fate.NOT_WORTH_CHANGING:
            return f"{points:.1f} points more accurate, too little for a change of plan"
        case Fate.NO_GAIN:
            cost = candidate.row_seconds / max(chosen.row_seconds, 1e-9) - 1.0
            return f"no gain: {points:+.1f} points at {cost:+.0%} cost"
        case Fate.LESS_ACCURATE:
            return f"{-points:.1f} points less accurate"
        case Fate.DOMINATED:
            return f"{-points:.1f} points less accurate, and neither earlier nor cheaper"


def event_words(kind: str, data: Mapping[str, Any]) -> str:
    """What happened, in one line; the kind itself for what has no words."""
    if kind == EventKind.JOB_QUEUED:
        how = ", below the accuracy asked for" if data.get("degraded") else ""
        if not data.get("is_promised", True):
            how = " as a best effort, without a promise"
        return f"Accepted{how}: {_count(data.get('num_problems'), 'problem')}"
    if kind == EventKind.JOB_RUNNING:
        return "A worker began"
    if kind == EventKind.JOB_CANCELLING:
        return "Asked to stop"
    if kind == EventKind.JOB_CHANGED:
        before, names = data.get("before", {}), ("deadline_at", "weight")
        changed = [n for n in names if data.get(n) != before.get(n)]
        new = [f"{_TERMS[name]} {data.get(name)}, was {before.get(name)}" for name in changed]
        return f"Changed: {'; '.join(new) or 'nothing'}"
    if kind == EventKind.JOB_AT_RISK:
        reason = data.get("reason")
        because = f": {_RISKS[RiskReason(reason)]}" if reason in set(RiskReason) else ""
        return f"The deadline is at risk{because}{_of_part(data)}"
    if kind == EventKind.JOB_ON_TRACK:
        return f"On track again{_of_part(data)}"
    if kind == EventKind.PLAN_STORED:
        before = data.get("before")
        instead = f" instead of {_split(before)}" if before else ""
        reason = data.get("reason")
        because = f": {_REASONS[PlanReason(reason)]}" if reason in set(PlanReason) else ""
        return f"{_split(data)}{instead}{because}{_of_part(data)}"
    if kind == EventKind.BATCH_LOST:
        back = _count(data.get("num_open"), "problem")
        reason = data.get("reason")
        what = _LOSSES[LossReason(reason)] if reason in set(LossReason) else "was lost"
        return f"{data.get('worker')} {what}; rescued {back}"
    if kind == EventKind.DEADLINE_STRUCK:
        states = set(ProblemState)
        closed = ", ".join(f"{count} {name}" for name, count in data.items() if name in states)
        return f"The deadline closed what was open: {closed}{_of_part(data)}"
    if kind in ENDS:
        ended = [f"{data[name]} {word}" for name, word in _ENDS.items() if data.get(name)]
        return f"{kind.removeprefix('job.').capitalize()}: {', '.join(ended) or 'nothing left'}"
    return kind


def _split(plan: Mapping[str, Any]) -> str:
    return (
        f"{_count(plan['num_branches'], 'branch', 'branches')} x draft"
        f" {plan['num_speculative_tokens']}, {plan['plan_max_tokens']} tokens"
    )


def _of_part(data: Mapping[str, Any]) -> str:
    due_at = data.get("part_deadline_at")
    return f" (of what is due {due_at})" if due_at else ""


def _count(number: Any, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
