"""Voting: the plurality, its tie rule, and stopping that never changes the winner."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.plan import Plan
from scheduler.core.stopping import (
    Vote,
    is_decided,
    is_hopeless,
    may_follow,
    plurality,
    should_stop,
)
from tests.scheduler.core.worlds import answers

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


ANSWERS = answers()


def plan(stop_gain: float = 0.002, max_branches: int = 0) -> Plan:
    return Plan(8, 0, 10_000, 4, stop_gain=stop_gain, max_branches=max_branches)


@given(
    finished=st.lists(st.sampled_from([1, 2, 3, None]), max_size=8),
    num_more=st.integers(0, 8),
)
@settings(max_examples=60, deadline=None)
def test_stop_gains_order_the_stops(finished: list[int | None], num_more: int) -> None:
    counts = counts_in_first_vote_order(finished)

    def stops(stop_gain: float) -> bool:
        return should_stop(
            plan(stop_gain),
            ANSWERS,
            counts,
            num_unanswered=finished.count(None),
            num_more=num_more,
        )

    assert stops(-1.0) == (num_more == 0)
    assert stops(0.0) == is_decided(counts, num_more)
    assert stops(-1.0) <= stops(0.0) <= stops(0.002) <= stops(0.05)


@given(counts=st.lists(st.integers(1, 9), max_size=4), num_running=st.integers(0, 12))
def test_more_running_branches_decide_nothing_earlier(counts: list[int], num_running: int) -> None:
    assert is_decided(counts, num_running + 1) <= is_decided(counts, num_running)


def follows(plan_of_it: Plan | None = None, **overrides: Any) -> bool:
    values: dict[str, Any] = {
        "num_started": 8,
        "time_left_s": 1000.0,
        "tpot_s": 0.01,
    }
    values |= overrides
    return may_follow(plan_of_it or plan(max_branches=16), ANSWERS, **values)


def test_a_branch_follows_while_there_is_time_for_it_and_the_plan_has_more() -> None:
    assert follows()
    assert not follows(num_started=16)
    needed_s = float(ANSWERS.length_quantile(0.9)) * 0.01
    assert follows(time_left_s=needed_s + 0.01)
    assert not follows(time_left_s=needed_s - 0.01)
    assert not follows(plan())


def test_a_cap_shortens_the_time_that_a_branch_that_follows_needs() -> None:
    assert follows(replace(plan(max_branches=16), max_tokens=50), time_left_s=0.6)


def test_a_successive_problem_goes_on_until_its_lead_is_enough() -> None:
    successive = Plan(1, 0, 10_000, 4, stop_gain=0.01, max_branches=16)

    def stops(*counts: int, num_more: int = 15) -> bool:
        return should_stop(successive, ANSWERS, counts, num_unanswered=0, num_more=num_more)

    assert not stops()
    assert not stops(1)
    assert stops(1, num_more=0)
    assert stops(3, 2, num_more=1)
    assert stops(8)
    assert not stops(4, 4)


def test_a_branch_is_hopeless_when_hardly_any_would_end_in_time() -> None:
    assert not is_hopeless(ANSWERS, time_left_s=60.0, tpot_s=0.01)
    assert is_hopeless(ANSWERS, time_left_s=0.1, tpot_s=0.01)
    quick = float(ANSWERS.length_quantile(0.25))
    assert not is_hopeless(ANSWERS, time_left_s=quick * 0.01, tpot_s=0.01)
