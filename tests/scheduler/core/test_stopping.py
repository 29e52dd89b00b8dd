"""Voting: the plurality, its tie rule, and stopping that never changes the winner."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.stopping import Vote, is_decided, plurality

NEW_CLASS = 99


def counts_in_first_vote_order(classes: list[int | None]) -> list[int]:
    counts: dict[int, int] = {}
    for vote_class in classes:
        if vote_class is not None:
            counts[vote_class] = counts.get(vote_class, 0) + 1
    return list(counts.values())


def every_completion(finished: list[int | None], num_running: int) -> list[tuple[int | None, ...]]:
    seen = sorted({c for c in finished if c is not None})
    options: list[int | None] = [*seen, NEW_CLASS, NEW_CLASS + 1, None]
    return list(itertools.product(options, repeat=num_running))


def test_most_votes_win() -> None:
    assert plurality([3, 1, 1, None]) == Vote(vote_class=1, votes=2, share=0.5, first_index=1)


def test_of_equal_classes_the_one_first_voted_for_wins() -> None:
    vote = plurality([2, 1, 1, 2])
    assert vote is not None
    assert vote.vote_class == 2


def test_branches_without_an_answer_elect_nobody() -> None:
    assert plurality([None, None]) is None
    assert plurality([]) is None


def test_a_vote_with_nothing_running_is_decided() -> None:
    assert is_decided([], 0)
    assert is_decided([2, 2], 0)


def test_a_vote_without_votes_is_open_while_a_branch_runs() -> None:
    assert not is_decided([], 1)


def test_a_lead_equal_to_the_running_branches_decides_only_for_the_earlier_class() -> None:
    assert is_decided([3, 1], 2)
    assert not is_decided([1, 3], 2)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        is_decided([1], -1)
    with pytest.raises(ValueError, match="negative"):
        is_decided([-1], 1)


@given(
    finished=st.lists(st.sampled_from([1, 2, 3, None]), max_size=7),
    num_running=st.integers(0, 4),
)
def test_a_decided_vote_survives_every_completion_and_an_open_one_does_not(
    finished: list[int | None], num_running: int
) -> None:
    decided = is_decided(counts_in_first_vote_order(finished), num_running)
    winners = {
        vote.vote_class if (vote := plurality([*finished, *rest])) else None
        for rest in every_completion(finished, num_running)
    }
    now = plurality(finished)
    stays = winners == {now.vote_class if now else None}
    assert decided == stays
