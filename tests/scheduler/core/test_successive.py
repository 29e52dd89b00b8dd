"""Successive branches: the lead that is enough, and the course of problems against a replay."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.plan import Plan, Width
from scheduler.core.stopping import may_follow, plurality, should_stop
from scheduler.core.successive import (
    course_of,
    cut_tokens,
    enough_lead,
    lead_of,
    uncut_tokens,
)
from tests.scheduler.core.drawn import Branch, sample_problems
from tests.scheduler.core.worlds import answers

ANSWERS = replace(answers(), wrong_length_ratio=1.2)
HORIZONS = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 20_000.0)


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=9))
def test_a_lead_is_what_the_next_vote_for_a_rival_takes_one_from(votes: list[int]) -> None:
    counts: dict[int, int] = {}
    for vote in votes:
        counts[vote] = counts.get(vote, 0) + 1
    lead = lead_of(tuple(counts.values()))
    winner = max(counts, key=counts.__getitem__)
    assert lead >= 0
    for rival in {1, 2, 3} - {winner}:
        overtaken = plurality([*votes, *[rival] * lead])
        assert overtaken is not None
        assert overtaken.vote_class == winner
    rivals = (*counts.keys() - {winner}, 9)
    winners = [plurality([*votes, *[rival] * (lead + 1)]) for rival in rivals]
    assert any(vote and vote.vote_class != winner for vote in winners)


def test_a_cheaper_branch_asks_for_a_longer_lead() -> None:
    leads = [sum(enough_lead(ANSWERS, gain, 16)) for gain in (0.001, 0.01, 0.05, 0.5)]
    assert leads == sorted(leads, reverse=True)
    assert enough_lead(ANSWERS, 0.5, 16)[1] <= 1
    assert enough_lead(ANSWERS, 0.001, 16)[1] > 1


def test_branches_are_cut_where_a_bound_is_shorter_than_they_are() -> None:
    assert cut_tokens(ANSWERS, uncut_tokens(ANSWERS)) == math.inf
    assert 950 < cut_tokens(ANSWERS, 1000.0) <= 1000
    uncut, cut = (course_of(ANSWERS, Width(1, 0.008, 2), HORIZONS, c) for c in (math.inf, 800.0))
    once = ANSWERS.accuracy_grid((1,), np.array([800.0, np.inf]))[0]
    assert once[0] + 0.05 < cut.accuracy[-1] < uncut.accuracy[-1]
    assert once[1] < uncut.accuracy[-1]


def test_who_ends_first_changes_nothing_where_branches_run_one_after_another() -> None:
    even, ahead = (
        course_of(replace(ANSWERS, right_first=first), Width(1, 0.008, 2), HORIZONS)
        for first in (0.5, 0.8)
    )
    assert (even.accuracy == ahead.accuracy).all()


def replay(branches: list[Branch], plan: Plan, horizon: float) -> tuple[bool, float, float]:
    """Whether the answer is right, row-tokens, and tokens until the end."""
    rows, begun = [0.0] * plan.num_branches, []
    for number, branch in enumerate(branches):
        row = int(np.argmin(rows))
        in_time = may_follow(
            plan,
            ANSWERS,
            num_started=number,
            time_left_s=horizon - rows[row],
            tpot_s=1.0,
        )
        if number >= plan.num_branches and not in_time:
            break
        begun.append((rows[row], rows[row] + branch.tokens, branch.vote))
        rows[row] += branch.tokens
    counts: dict[int, int] = {}
    end = horizon
    in_order = sorted(begun, key=lambda item: item[1])
    for num_ended, (_, ended, vote) in enumerate(in_order, start=1):
        if ended > horizon:
            break
        if vote is not None:
            counts[vote] = counts.get(vote, 0) + 1
        if should_stop(
            plan,
            ANSWERS,
            tuple(counts.values()),
            num_unanswered=num_ended - sum(counts.values()),
            num_more=len(begun) - num_ended,
        ):
            end = ended
            break
    leader = max(counts, key=counts.__getitem__) if counts else None
    work = sum(min(until, end) - min(start, end) for start, until, _ in begun)
    return leader == 0, work, end


@pytest.mark.parametrize(
    ("width", "cut"),
    [
        (Width(1, 0.01, 8), 1e9),
        (Width(2, 0.01, 8), 1e9),
        (Width(3, 0.03, 12), 1e9),
        (Width(1, 0.008, 2), 800.0),
        (Width(2, 0.01, 8), 800.0),
    ],
)
def test_the_course_agrees_with_a_replay(width: Width, cut: float) -> None:
    course = course_of(ANSWERS, width, HORIZONS, cut)
    tokens = int(min(cut, 20_000))
    plan = Plan(width.num_branches, 0, tokens, 1, width.stop_gain, width.max_branches)
    drawn = sample_problems(ANSWERS, 1500, width.max_branches, cut, np.random.default_rng(3))
    problems = [drawn[i : i + width.max_branches] for i in range(0, len(drawn), width.max_branches)]
    for place, horizon in enumerate(HORIZONS):
        replayed = np.array([replay(branches, plan, horizon) for branches in problems])
        mean, error = replayed.mean(axis=0), replayed.std(axis=0) / len(problems) ** 0.5
        assert course.accuracy[place] == pytest.approx(mean[0], abs=3 * error[0])
        # What the horizon leaves no time for is counted, though it is not started.
        assert course.work[place] >= mean[1] - 3 * error[1]
        if horizon in (0.0, HORIZONS[-1]):
            assert course.work[place] == pytest.approx(mean[1], abs=3 * error[1])
            assert course.duration[place] == pytest.approx(mean[2], abs=3 * error[2])
    assert (np.diff(course.accuracy) >= 0).all()
    assert (np.diff(course.work) >= -1e-9).all()
