"""When a vote is decided, and who wins it.

Theory of operation: branches vote for equivalence classes of answers in the order in which they
finish. The class with most votes wins; of equal classes the one whose first vote came earliest
wins (short branches are right more often, so the earliest finisher is the better guess). Classes
are therefore always listed in the order of their first vote, and a vote is decided as soon as no
outcome of the branches that still run could change its winner under exactly this tie rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass


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
