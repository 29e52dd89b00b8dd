"""When a problem ends: a decided vote, one that more branches would hardly change, or no time.

Theory of operation: branches vote for equivalence classes of answers in the order in which they
finish. The class with most votes wins; of equal classes the one whose first vote came earliest
wins (short branches are right more often, so the earliest finisher is the better guess). Classes
are therefore always listed in the order of their first vote, and a vote is decided as soon as no
outcome of the branches that still run could change its winner under exactly this tie rule.

Short of that a plan's `stop_gain` says what the branches still to come must be worth: see `gain`.
A successive plan starts a further branch in place of one that ended, as long as the lead is not
enough (`successive`) and there is time for one. All functions here are pure; the worker's
controller and the simulator call them alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.gain import expected_gain
from scheduler.core.plan import Plan
from scheduler.core.successive import enough_lead, lead_of, tokens_to_follow

HOPELESS_QUANTILE = 0.02
"""A waiting branch is not started if only this share of all branches would end in time."""

CUT_SHARE = 0.6
"""Share of the reserve that is left when the deadline cuts what has no vote yet: enough for one
step of an engine and one transaction."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a plurality vote.

    Attributes:
        vote_class: The winning class.
        votes: Branches that voted for it.
        share: `votes` over all finished branches, those without an answer included.
        first_index: Position in finish order of the winning class's first vote.
    """

    vote_class: int
    votes: int
    share: float
    first_index: int


def is_decided(class_counts: Sequence[int], num_running: int) -> bool:
    """Whether the running branches can no longer change the winner.

    The leader wins ties against classes first voted for later than it, a class not seen yet
    included, and loses ties against earlier ones.

    Args:
        class_counts: Votes per class, classes in the order of their first vote (the insertion
            order of a dict that counts votes as they arrive).
        num_running: Branches of the problem that have not finished yet; each of them may vote
            for any class, a new one, or none.

    Raises:
        ValueError: A count is negative.
    """
    if num_running < 0 or any(count < 0 for count in class_counts):
        raise ValueError("counts must not be negative")
    if num_running == 0:
        return True
    if not class_counts:
        return False
    leader = max(class_counts)
    leader_index = list(class_counts).index(leader)
    # A class that nobody voted for yet could collect every running branch.
    if num_running > leader:
        return False
    for index, count in enumerate(class_counts):
        reachable = count + num_running
        if index < leader_index and reachable >= leader:
            return False
        if index > leader_index and reachable > leader:
            return False
    return True


def plurality(classes_in_finish_order: Sequence[int | None]) -> Vote | None:
    """Count the votes of finished branches.

    Args:
        classes_in_finish_order: Vote class of each finished branch, None without an answer.

    Returns:
        The winner, or None when no branch gave an answer.
    """
    counts: dict[int, int] = {}
    first: dict[int, int] = {}
    for index, vote_class in enumerate(classes_in_finish_order):
        if vote_class is not None:
            counts[vote_class] = counts.get(vote_class, 0) + 1
            first.setdefault(vote_class, index)
    if not counts:
        return None
    # max keeps the first of equals, and dicts keep the order of first votes.
    winner = max(counts, key=counts.__getitem__)
    return Vote(
        vote_class=winner,
        votes=counts[winner],
        share=counts[winner] / len(classes_in_finish_order),
        first_index=first[winner],
    )


def should_stop(
    plan: Plan,
    profile: AnswerProfile,
    class_counts: Sequence[int],
    *,
    num_unanswered: int,
    num_more: int,
) -> bool:
    """Whether a problem is to be answered from the branches that ended.

    Args:
        class_counts: Votes per class, in the order of their first vote.
        num_unanswered: Branches that ended without an answer.
        num_more: Branches of the problem that wait, run, or may follow those.
    """
    if plan.stop_gain < 0:
        return num_more == 0
    if is_decided(class_counts, num_more):
        return True
    if plan.stop_gain == 0 or not class_counts:
        return False
    if plan.is_successive:
        enough = enough_lead(profile, plan.stop_gain, plan.max_branches)
        return lead_of(class_counts) >= enough[min(sum(class_counts), plan.max_branches)]
    return expected_gain(profile, class_counts, num_unanswered, num_more) < plan.stop_gain


def may_follow(
    plan: Plan,
    profile: AnswerProfile,
    *,
    num_started: int,
    time_left_s: float,
    tpot_s: float,
) -> bool:
    """Whether a problem of a successive plan may get a further branch.

    Args:
        num_started: Branches of the problem that ended, run or wait.
        time_left_s: Until the vote must be taken.
        tpot_s: Seconds per token of a branch as observed.
    """
    needed = min(tokens_to_follow(profile), float(plan.max_tokens))
    return num_started < plan.max_branches and needed * tpot_s <= time_left_s


def is_hopeless(profile: AnswerProfile, *, time_left_s: float, tpot_s: float) -> bool:
    """Whether a branch that has not started would hardly end in the time left.

    Args:
        time_left_s: Until the vote must be taken.
        tpot_s: Seconds per token of a branch as observed.
    """
    return _tokens_of_share(profile, HOPELESS_QUANTILE) * tpot_s > time_left_s


@lru_cache(maxsize=256)
def _tokens_of_share(profile: AnswerProfile, share: float) -> float:
    return float(profile.length_quantile(share))
