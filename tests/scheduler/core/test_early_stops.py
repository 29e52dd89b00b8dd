"""Forecast stops are those of the rule, and cost no more than it says."""

import numpy as np
import pytest

from scheduler.core.early_stops import stops_of
from scheduler.core.occupancy import occupancy_of
from scheduler.core.plan import Plan, Width
from scheduler.core.stopping import should_stop
from tests.scheduler.core.drawn import draw_votes
from tests.scheduler.core.worlds import answers

ANSWERS = answers()
SHARES = np.asarray(ANSWERS.weights).sum(axis=1)


def mean_used(width: int, stop_gain: float) -> float:
    stopped = stops_of(ANSWERS, width, stop_gain).stopped
    return float((1.0 - stopped[:, :-1]).sum(axis=1) @ SHARES)


def test_stops_are_distributions_over_the_branches_ended() -> None:
    for stop_gain in (-1.0, 0.0, 0.002):
        stopped = stops_of(ANSWERS, 12, stop_gain).stopped
        assert stopped.shape == (len(ANSWERS.difficulty), 13)
        assert (np.diff(stopped, axis=1) >= -1e-12).all()
        assert stopped[:, 0] == pytest.approx(0.0)
        assert stopped[:, -1] == pytest.approx(1.0)


def test_a_negative_stop_gain_uses_every_branch_and_none_ends_when_decided() -> None:
    assert mean_used(8, -1.0) == 8.0
    shares = np.asarray(ANSWERS.weights).sum(axis=1)
    undecided = 1.0 - ANSWERS.decided_after(8)[:, :-1]
    assert mean_used(8, 0.0) == pytest.approx(float(shares @ undecided.sum(axis=1)))


def test_a_greater_stop_gain_uses_fewer_branches() -> None:
    used = [mean_used(32, stop_gain) for stop_gain in (0.0, 0.0005, 0.002, 0.01)]
    assert used == sorted(used, reverse=True)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_problems_stop_when_the_rule_stops_them(width: int) -> None:
    rng = np.random.default_rng(7)
    plan = Plan(width, 0, 1000, 4, stop_gain=0.002)
    used = []
    for _ in range(400):
        counts: dict[int, int] = {}
        for number, vote in enumerate(draw_votes(ANSWERS, width, rng), start=1):
            counts[vote] = counts.get(vote, 0) + 1
            if should_stop(
                plan, ANSWERS, tuple(counts.values()), num_unanswered=0, num_more=width - number
            ):
                break
        used.append(number)
    error = float(np.std(used)) / len(used) ** 0.5
    assert mean_used(width, 0.002) == pytest.approx(np.mean(used), abs=3 * error + 0.02 * width)


def test_stopping_saves_work_and_costs_little_accuracy() -> None:
    decided = occupancy_of(ANSWERS, (Width(8, 0.0), Width(16, 0.0)))
    early = occupancy_of(ANSWERS, (Width(8, 0.002), Width(16, 0.002)))
    assert (early.work[:, 1:] <= decided.work[:, 1:] * 1.001).all()
    assert early.work[1, -1] < 0.95 * decided.work[1, -1]
    assert (early.accuracy <= decided.accuracy).all()
    assert (decided.accuracy - early.accuracy).max() < 0.006
