"""Modeled time agrees with the profile's closed forms and with a step-by-step oracle."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.latency import LatencyProfile
from worker.engines.base import BranchRequest, Sampling
from worker.engines.replay.timeline import Row, Timeline

PROFILE = LatencyProfile(
    engine="replay",
    model="m",
    device="none",
    method="made up",
    measured_at="2026-01-01",
    base_s=0.02,
    token_slopes_s=(0.0005, 0.002),
    token_knots=(0.0, 16.0),
    context_s=1e-6,
    draft_base_s=0.001,
    draft_row_s=0.0001,
    prefill_base_s=0.01,
    prefill_token_s=0.0001,
    acceptance=(0.8, 0.7, 0.6, 0.5),
)


def row(
    name: str, tokens: int, *, k: int = 0, prompt: str = "p", priority: int = 0, at_s: float = 0.0
) -> Row:
    request = BranchRequest(
        branch_id=name,
        prompt=prompt,
        branch_index=0,
        num_speculative_tokens=k,
        max_tokens=tokens,
        sampling=Sampling(),
        priority=priority,
        deadline_at=datetime(2027, 1, 1, tzinfo=UTC),
    )
    return Row(request, prompt_tokens=10, total_tokens=tokens, answer="1", queued_at_s=at_s)


def timeline(max_num_seqs: int = 8, kv_capacity_tokens: int = 10**6) -> Timeline:
    made = Timeline(PROFILE, max_num_seqs=max_num_seqs, kv_capacity_tokens=kv_capacity_tokens)
    made.advance(0.0)
    return made


def run_out(rows: Timeline) -> list[Row]:
    ended: list[Row] = []
    while (event_s := rows.next_completion_s()) is not None:
        ended += rows.advance(event_s)
    return ended


def test_one_row_takes_its_prefill_and_its_steps() -> None:
    rows = timeline()
    rows.add(row("a", 101))
    rows.advance(0.0)
    (ended,) = run_out(rows)
    steps = sum(float(PROFILE.step_time_s(1, 0, 10 + 1 + i)) for i in range(100))
    prefill_s = float(PROFILE.prefill_time_s(10))
    assert ended.first_token_at_s == pytest.approx(prefill_s)
    assert ended.finished_at_s == pytest.approx(prefill_s + steps, rel=1e-4)
    assert round(ended.steps) == 100


@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_draft_divides_the_steps_by_the_mean_acceptance_length(k: int) -> None:
    rows = timeline()
    rows.add(row("a", 1001, k=k))
    rows.advance(0.0)
    (ended,) = run_out(rows)
    assert ended.steps == pytest.approx(1000 / float(PROFILE.mean_acceptance_length(k)))


def test_siblings_share_the_prefill_of_their_prompt_and_others_do_not() -> None:
    rows = timeline()
    for name, prompt in [("a", "p"), ("b", "p"), ("c", "q")]:
        rows.add(row(name, 50, prompt=prompt))
    rows.advance(0.0)
    first = {ended.request.branch_id: ended.first_token_at_s for ended in run_out(rows)}
    prefill_s = float(PROFILE.prefill_time_s(10))
    assert first["a"] == first["b"] == pytest.approx(prefill_s)
    assert first["c"] == pytest.approx(2 * prefill_s)


def test_waiting_rows_start_by_priority_then_arrival_as_rows_free_up() -> None:
    rows = timeline(max_num_seqs=1)
    for name, priority in [("late", 9), ("first", 5), ("second", 5), ("urgent", 1)]:
        rows.add(row(name, 20, priority=priority))
    rows.advance(0.0)
    ended = run_out(rows)
    assert [r.request.branch_id for r in ended] == ["urgent", "first", "second", "late"]
    for before, after in pairwise(ended):
        assert after.started_at_s == before.finished_at_s


def test_rows_wait_while_the_kv_cache_is_full() -> None:
    rows = timeline(kv_capacity_tokens=150)
    rows.add(row("a", 100))
    rows.add(row("b", 100))
    rows.advance(0.0)
    a, b = run_out(rows)
    assert b.started_at_s == a.finished_at_s


def test_a_removed_row_leaves_at_once_and_its_place_is_taken() -> None:
    rows = timeline(max_num_seqs=1)
    rows.add(row("a", 1000))
    rows.add(row("b", 10))
    rows.advance(1.0)
    removed = rows.remove("a")
    assert removed is not None
    assert 1 < removed.tokens < 1000
    assert rows.remove("a") is None
    rows.advance(1.0)
    (b,) = run_out(rows)
    assert b.started_at_s == 1.0


@given(
    lengths=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 4)), min_size=1, max_size=12),
    cuts=st.lists(st.floats(0.001, 3.0), max_size=6),
    epoch_s=st.sampled_from([0.0, 1.8e9]),
)
def test_how_often_the_clock_is_read_does_not_matter(
    lengths: list[tuple[int, int]], cuts: list[float], epoch_s: float
) -> None:
    def finish_times(stops: list[float]) -> dict[str, float]:
        rows = Timeline(PROFILE, max_num_seqs=4, kv_capacity_tokens=10**6)
        rows.advance(epoch_s)
        for i, (tokens, k) in enumerate(lengths):
            rows.add(row(str(i), tokens, k=k, at_s=epoch_s))
        ended: list[Row] = []
        for stop_s in np.cumsum(stops).tolist():
            ended += rows.advance(epoch_s + stop_s)
        ended += rows.advance(epoch_s + 1e6)
        assert not rows.branch_ids
        return {r.request.branch_id: r.finished_at_s - epoch_s for r in ended}

    whole, cut = finish_times([]), finish_times(cuts)
    assert set(whole) == {str(i) for i in range(len(lengths))}
    assert cut == pytest.approx(whole, rel=1e-3, abs=1e-3)


def test_mixed_rows_agree_with_a_step_by_step_oracle() -> None:
    lengths = [40, 90, 160, 300]
    rows = timeline()
    for i, tokens in enumerate(lengths):
        rows.add(row(str(i), tokens))
    rows.advance(0.0)
    ended = run_out(rows)
    now_s = float(PROFILE.prefill_time_s(10))
    expected = []
    for step in range(1, 300):
        live = [tokens for tokens in lengths if tokens > step]
        now_s += float(PROFILE.step_time_s(len(live), 0, sum(10 + step for _ in live)))
        expected += [now_s for tokens in lengths if tokens == step + 1]
    assert [r.finished_at_s for r in ended] == pytest.approx(expected, rel=1e-3)
