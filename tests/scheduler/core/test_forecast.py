"""The forecast against a simulation of branches on rows, token by token."""

import heapq
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.fleet import Fleet
from scheduler.core.forecast import ForecastGrid, forecast_plans
from scheduler.core.plan import Width
from scheduler.core.stopping import is_decided
from tests.scheduler.core.drawn import Branch, sample_problems
from tests.scheduler.core.worlds import ANSWERS, LATENCY, answers, worker


def simulate(
    fleet: Fleet, branches: list[Branch], width: int, draft: int, prompt_tokens: float
) -> tuple[float, list[bool]]:
    """Finish time and correctness of each problem on one pool of rows, first come first served."""
    latency = fleet.members[0].latency
    rows = fleet.rows
    waiting = list(reversed(branches))
    running: list[tuple[float, int, Branch]] = []
    votes: dict[int, dict[int, int]] = {}
    left = dict.fromkeys(range(len(branches) // width), width)
    clock_tokens, now = 0.0, 0.0
    started_tokens = 0.0
    while waiting or running:
        while waiting and len(running) < rows:
            branch = waiting.pop()
            if left[branch.problem]:
                heapq.heappush(running, (clock_tokens + branch.tokens, id(branch), branch))
                started_tokens += clock_tokens
        if not running:
            break
        end, _, branch = heapq.heappop(running)
        ages = (len(running) + 1) * clock_tokens - started_tokens
        context = prompt_tokens * (len(running) + 1) + ages
        tpot = float(latency.tpot_s(len(running) + 1, draft, context))
        now += (end - clock_tokens) * tpot
        clock_tokens = end
        started_tokens -= end - branch.tokens
        if not left[branch.problem]:
            continue
        counts = votes.get(branch.problem, {})
        if branch.vote is not None:
            counts = votes.setdefault(branch.problem, {})
            counts[branch.vote] = counts.get(branch.vote, 0) + 1
        left[branch.problem] -= 1
        if is_decided(list(counts.values()), left[branch.problem]):
            left[branch.problem] = 0
            for entry in [e for e in running if e[2].problem == branch.problem]:
                running.remove(entry)
                started_tokens -= entry[0] - entry[2].tokens
            heapq.heapify(running)
    problems = range(len(branches) // width)
    right = [p in votes and max(votes[p], key=votes[p].__getitem__) == 0 for p in problems]
    return now, right


def forecast_one(
    fleet: Fleet, num_problems: int, width: int, draft: int, cap: float, prompt_tokens: float
) -> ForecastGrid:
    return forecast_plans(
        fleet,
        num_problems=num_problems,
        prompt_tokens=prompt_tokens,
        widths=(Width(width),),
        draft_lengths=(draft,),
        caps=np.array([cap]),
    )


CASES = [
    pytest.param(60, 4, 0, 0.98, 32, id="throughput and drain"),
    pytest.param(200, 2, 3, 0.95, 32, id="many narrow problems with drafts"),
    pytest.param(40, 16, 2, 0.98, 64, id="wide problems"),
    pytest.param(10, 1, 4, 0.9, 32, id="rows to spare"),
    pytest.param(4, 8, 0, 0.98, 32, id="exactly full"),
    pytest.param(12, 4, 0, 0.98, 32, id="barely queued"),
    pytest.param(1, 16, 2, 0.995, 32, id="one problem"),
    pytest.param(40, 8, 1, 0.8, 128, id="tight cap"),
]


@pytest.mark.parametrize(("num_problems", "width", "draft", "quantile", "rows"), CASES)
def test_the_forecast_agrees_with_a_simulation(
    num_problems: int, width: int, draft: int, quantile: float, rows: int
) -> None:
    profile = answers()
    fleet = Fleet.of([worker(rows=rows, answers=profile)])
    cap = float(np.ceil(profile.length_quantile(quantile)))
    forecast = forecast_one(fleet, num_problems, width, draft, cap, 100.0)
    rng = np.random.default_rng(7)
    finishes, correct = [], []
    for _ in range(max(60, 600 // num_problems)):
        branches = sample_problems(profile, num_problems, width, cap, rng)
        finish_s, right = simulate(fleet, branches, width, draft, 100.0)
        # An engine that is slower today is slower at every step.
        finishes.append(finish_s * np.exp(fleet.residual_sigma * rng.standard_normal()))
        correct += right
    prefill_s = num_problems * fleet.prefill_s(100.0)
    p50, p95 = forecast.p50_s.item() - prefill_s, forecast.p95_s.item() - prefill_s
    covered = float(np.mean(np.array(finishes) <= p95))
    accuracy = float(np.mean(correct))
    assert p50 == pytest.approx(np.median(finishes), rel=0.12)
    assert 0.88 <= covered <= 1.0
    assert p95 <= 1.25 * np.percentile(finishes, 95)
    noise = 4 * np.sqrt(0.25 / len(correct))
    assert forecast.accuracy.item() == pytest.approx(accuracy, abs=0.02 + noise)


def test_two_workers_finish_like_one_with_all_their_rows() -> None:
    one = forecast_one(Fleet.of([worker(rows=64)]), 100, 4, 2, 1000.0, 100.0)
    two = forecast_one(
        Fleet.of([worker("w1", rows=32), worker("w2", rows=32)]), 100, 4, 2, 1000.0, 100.0
    )
    # Two smaller batches step faster than a large one, never slower.
    assert 0.5 * one.p50_s.item() < two.p50_s.item() <= one.p50_s.item()


def test_a_slow_worker_slows_the_fleet_by_its_share() -> None:
    slow = replace(LATENCY, base_s=2 * LATENCY.base_s)
    even = forecast_one(
        Fleet.of([worker("w1"), worker("w2")]), 200, 4, 0, 1000.0, 100.0
    ).p50_s.item()
    mixed = forecast_one(
        Fleet.of([worker("w1"), worker("w2", latency=slow)]), 200, 4, 0, 1000.0, 100.0
    ).p50_s.item()
    assert even < mixed < 2 * even


def test_rows_left_free_make_steps_faster_unless_others_fill_them() -> None:
    fleet = Fleet.of([worker(rows=128)])
    options = {
        "num_problems": 4,
        "prompt_tokens": 100.0,
        "widths": (Width(4),),
        "draft_lengths": (0,),
        "caps": np.array([1000.0]),
    }
    alone = forecast_plans(fleet, **options)  # type: ignore[arg-type]
    beside = forecast_plans(fleet, **options, other_branches=500.0)  # type: ignore[arg-type]
    assert alone.p50_s.item() < beside.p50_s.item()


def test_a_small_cache_bounds_the_rows() -> None:
    spec = replace(worker().spec, kv_capacity_tokens=4000)
    small = Fleet.of([replace(worker(), spec=spec)])
    large = Fleet.of([worker()])
    cramped = forecast_one(small, 50, 4, 0, 1000.0, 100.0)
    roomy = forecast_one(large, 50, 4, 0, 1000.0, 100.0)
    assert cramped.p50_s.item() > 2 * roomy.p50_s.item()


def test_a_profile_learned_from_few_problems_widens_the_spread() -> None:
    few = Fleet.of([worker(answers=replace(ANSWERS, num_problems_seen=5))])
    many = Fleet.of([worker()])
    unsure = forecast_one(few, 50, 4, 0, 1000.0, 100.0)
    sure = forecast_one(many, 50, 4, 0, 1000.0, 100.0)
    assert unsure.p50_s.item() == pytest.approx(sure.p50_s.item())
    assert unsure.p95_s.item() > sure.p95_s.item()


def test_few_problems_say_little_of_second_branches_after_the_longest() -> None:
    def finishes(num_seen: int) -> tuple[float, float]:
        fleet = Fleet.of([worker(answers=replace(ANSWERS, num_problems_seen=num_seen))])
        grid = forecast_plans(
            fleet,
            num_problems=30,
            prompt_tokens=100.0,
            widths=(Width(1), Width(1, 0.008, 2)),
            draft_lengths=(0,),
            caps=np.array([4000.0]),
        )
        once, again = grid.p95_s[:, 0, 0] - grid.p50_s[:, 0, 0]
        return float(again - once), float(grid.p50_s[1, 0, 0])

    few, many = finishes(100), finishes(100_000)
    assert few[0] > 2.0 * many[0] > 0.0
    assert few[1] == many[1]
