"""The engine model as a queue: mean waits against the formulas of queueing theory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scheduler.core.plan import EngineSpec
from scheduler.core.simulation.branch import Branch
from scheduler.core.simulation.engine import EngineModel
from scheduler.core.simulation.world import SimulatedWorker
from tests.scheduler.core import worlds

STEP_S = 0.01
MEAN_TOKENS = 2000.0


def engine(rows: int) -> EngineModel:
    """An engine whose steps take 10 ms whatever they do, without prefills."""
    flat = replace(
        worlds.LATENCY,
        base_s=STEP_S,
        token_slopes_s=(0.0,),
        token_knots=(0.0,),
        context_s=0.0,
        prefill_base_s=0.0,
        prefill_token_s=0.0,
    )
    spec = EngineSpec("replay", worlds.MODEL, rows, 10**9, (0,), 10**9)
    return EngineModel(SimulatedWorker("w1", spec, flat, flat, worlds.ANSWERS))


def branch(index: int, tokens: int, priority: float = 0.0, draft: int = 0) -> Branch:
    return Branch(index, 0, 10, tokens, draft, priority)


def mean_wait_s(rows: int, arrivals: Sequence[float], lengths: Sequence[int]) -> float:
    """Seconds between arrival and start, on average."""
    model = engine(rows)
    ended_s = np.zeros(len(lengths))

    def run_until(at_s: float) -> None:
        while (end_s := model.next_event_s()) is not None and end_s <= at_s:
            for item in model.advance(end_s):
                ended_s[int(str(item.problem))] = end_s

    for index, (at_s, tokens) in enumerate(zip(arrivals, lengths, strict=True)):
        run_until(at_s)
        model.submit([branch(index, tokens)], at_s)
    run_until(np.inf)
    return float(np.mean(ended_s - np.asarray(arrivals) - STEP_S * np.asarray(lengths)))


def test_constant_lengths_on_one_row_wait_as_in_m_d_1() -> None:
    load, service_s = 0.7, MEAN_TOKENS * STEP_S
    arrivals = np.random.default_rng(1).exponential(service_s / load, 100_000).cumsum()
    expected_s = load * service_s / (2 * (1 - load))
    waited_s = mean_wait_s(1, arrivals.tolist(), [int(MEAN_TOKENS)] * len(arrivals))
    assert waited_s == pytest.approx(expected_s, rel=0.04)


def test_exponential_lengths_on_several_rows_wait_as_in_m_m_c() -> None:
    rows, load, service_s = 4, 0.8, MEAN_TOKENS * STEP_S
    rng = np.random.default_rng(2)
    arrivals = rng.exponential(service_s / (load * rows), 150_000).cumsum()
    lengths = np.maximum(rng.exponential(MEAN_TOKENS, len(arrivals)).round(), 1).astype(int)
    offered = load * rows
    terms = np.cumprod([1.0] + [offered / n for n in range(1, rows + 1)])
    last = terms[rows] / (1 - load)
    expected_s = last / (terms[:rows].sum() + last) * service_s / (rows * (1 - load))
    waited_s = mean_wait_s(rows, arrivals.tolist(), lengths.tolist())
    assert waited_s == pytest.approx(expected_s, rel=0.06)


def test_row_seconds_add_up() -> None:
    model = engine(2)
    model.submit([branch(n, tokens) for n, tokens in enumerate((100, 300, 200))], 5.0)
    while (end_s := model.next_event_s()) is not None:
        model.advance(end_s)
    outcome = model.outcome()
    assert outcome.row_seconds == pytest.approx(6.0)
    assert outcome.gpu_seconds == pytest.approx(3.0)
    assert outcome.tokens == pytest.approx(600)


def test_an_abort_frees_the_row_at_once_for_the_most_urgent() -> None:
    model = engine(1)
    first, second, third = branch(0, 1000), branch(1, 100, priority=2.0), branch(2, 100, 1.0)
    model.submit([first], 0.0)
    model.submit([second, third], 0.0)
    model.abort([first], 4.0)
    assert first.decoded_tokens == pytest.approx(400)
    assert model.next_event_s() == pytest.approx(5.0)
    assert model.advance(5.0) == [third]


def test_drafts_of_different_lengths_share_the_time_of_a_step() -> None:
    latency = replace(worlds.LATENCY, prefill_base_s=0.0, prefill_token_s=0.0, context_s=0.0)
    spec = EngineSpec("replay", worlds.MODEL, 8, 10**9, (0, 1, 2, 3, 4), 10**9)
    model = EngineModel(SimulatedWorker("w1", spec, latency, latency, worlds.ANSWERS))
    model.submit([branch(0, 1000, draft=0), branch(1, 10**6, draft=2)], 0.0)
    # Two rows that verify 1 + 3 tokens: as many as two rows with a draft of one.
    assert model.next_event_s() == pytest.approx(1000 * float(latency.step_time_s(2, 1, 0)))
