"""The parts of the torch engine: slots, sampling, random numbers and stored prompts."""

from datetime import UTC, datetime
from queue import SimpleQueue

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engines.branches import branch
from worker.engines.base import FinishReason, Sampling
from worker.engines.torch.cache import KvCache
from worker.engines.torch.config import LlamaConfig
from worker.engines.torch.prompts import PromptKv, PromptStore
from worker.engines.torch.rows import Row
from worker.engines.torch.sampling import SamplingRows, Uniforms, draw, verify
from worker.engines.torch.slots import arrange, spans

CPU = torch.device("cpu")
SMALL = LlamaConfig(8, 8, 8, 2, 2, 1, 4, 64)


def row(num_speculative_tokens: int = 0, slot: int | None = None, max_tokens: int = 10) -> Row:
    request = branch("a", "", num_speculative_tokens=num_speculative_tokens, max_tokens=max_tokens)
    return Row(request, SimpleQueue(), datetime.now(UTC), [1, 2, 3], [4], slot=slot)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=20), st.randoms())
def test_rows_take_slots_by_descending_draft_length_and_none_is_overwritten(
    specs: list[tuple[int, bool]], random: object
) -> None:
    slots = list(range(2 * len(specs)))
    random.shuffle(slots)  # type: ignore[attr-defined]
    rows = [row(k, slots.pop() if runs else None) for k, runs in specs]
    before = {id(r): r.slot for r in rows}
    ordered, moves = arrange(rows)
    assert sorted(map(id, ordered)) == sorted(map(id, rows))
    assert [r.slot for r in ordered] == list(range(len(rows)))
    lengths = [r.num_speculative_tokens for r in ordered]
    assert lengths == sorted(lengths, reverse=True)
    moved = {(before[id(r)], r.slot) for r in ordered if before[id(r)] not in (None, r.slot)}
    assert set(moves) == moved
    assert len({target for _, target in moves}) == len(moves)


def test_arranging_again_moves_nothing() -> None:
    ordered, _ = arrange([row(k) for k in (0, 3, 3, 1, 8)])
    assert arrange(ordered) == (ordered, [])


def test_a_row_that_ends_inside_its_draft_counts_the_draft_up_to_its_end_only() -> None:
    ending = row(num_speculative_tokens=4)
    reason = ending.extend([5, 6, 7], eos_token_ids=frozenset({6}), max_model_len=64)
    ending.count_step(num_accepted=3, num_kept=2)
    assert reason == FinishReason.STOP
    assert ending.token_ids == [4, 5, 6]
    assert (ending.drafted, ending.accepted) == ([1, 1, 0, 0], [1, 1, 0, 0])


def test_swapping_slots_keeps_both_rows() -> None:
    cache = KvCache(SMALL, num_slots=3, max_tokens=4, device=CPU, dtype=torch.float32)
    for slot in range(3):
        cache.kv[:, slot] = slot
    cache.move([(0, 2), (2, 0)], [(0, 3), (0, 3)])
    assert cache.kv[0, :, 0, 0, 0].tolist() == [2, 1, 0]
    assert cache.kv[0, :, 0, 3, 0].tolist() == [0, 1, 2]


@given(st.permutations(range(9)), st.integers(0, 9), st.integers(0, 3))
def test_moves_in_chains_and_cycles_keep_every_row(
    targets: list[int], num_moves: int, first: int
) -> None:
    cache = KvCache(SMALL, num_slots=9, max_tokens=4, device=CPU, dtype=torch.float32)
    for slot in range(9):
        cache.kv[:, slot] = slot
    moves = [(slot, target) for slot, target in enumerate(targets[:num_moves]) if slot != target]
    cache.move(moves, [(first, 4)] * len(moves))
    expected = list(range(9))
    for source, target in moves:
        expected[target] = source
    assert cache.kv[-1, :, -1, first, -1].tolist() == expected
    assert cache.kv[-1, :, -1, :first, -1].tolist() == [[slot] * first for slot in range(9)]


def test_rows_of_a_draft_length_take_slots_by_descending_context_where_asked() -> None:
    rows = [row(k) for k in (0, 3, 0, 3, 0)]
    for num_tokens, r in zip((10, 20, 30, 40, 31), rows, strict=True):
        r.token_ids = [4] * (num_tokens - len(r.prompt_ids))
    ordered, _ = arrange(rows, context_step_tokens=16)
    assert [r.num_speculative_tokens for r in ordered] == [3, 3, 0, 0, 0]
    assert [r.num_tokens // 16 for r in ordered] == [2, 1, 1, 1, 0]


def test_rows_of_a_prompt_are_neighbors_and_share_it_where_that_saves_enough() -> None:
    cache = KvCache(SMALL, num_slots=1, max_tokens=3, device=CPU, dtype=torch.float32)
    many, few = (PromptKv(cache, torch.zeros(1, 8)) for _ in range(2))
    rows = [row(2) for _ in range(6)] + [row(0) for _ in range(3)]
    for r, prompt in zip(rows, (many, few, many, few, many, many, many, few, few), strict=True):
        r.prompt = prompt
    ordered, _ = arrange(rows, min_saved_tokens=9)
    assert [(r.num_speculative_tokens, r.prompt, r.shares_prompt) for r in ordered] == [
        *[(2, many, True)] * 4,
        *[(2, few, False)] * 2,
        *[(0, prompt, False) for prompt in (r.prompt for r in ordered[6:])],
    ]
    cut = spans(ordered, max_rows=2)
    assert [(s.start, s.stop, s.prompt) for s in cut] == [
        (0, 4, many),
        (4, 6, None),
        (6, 8, None),
        (8, 9, None),
    ]
    assert arrange(ordered, min_saved_tokens=9) == (ordered, [])
    alone, _ = arrange(rows)
    assert not any(r.shares_prompt for r in alone)


def test_drawing_follows_the_weights_and_never_takes_an_impossible_token() -> None:
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0]).expand(40_000, -1)
    uniforms = torch.linspace(0, 1 - 2**-23, 40_000)[:, None]
    counts = draw(weights, uniforms).bincount(minlength=5)
    assert counts.tolist() == pytest.approx([0, 30_000, 0, 10_000, 0], abs=2)
    assert counts[[0, 2, 4]].sum() == 0


def test_nucleus_and_greedy_rows_keep_their_own_settings_in_one_batch() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4, 1, -1)
    rows = [Sampling(1.0), Sampling(1.0, top_p=0.7), Sampling(0.0), Sampling(1.0, top_p=1e-9)]
    probabilities = SamplingRows.of(rows, CPU).probabilities(logits)[:, 0]
    expected = [[0.5, 0.3, 0.15, 0.05], [0.625, 0.375, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(probabilities, torch.tensor(expected))


def test_rows_keep_their_own_number_of_likeliest_tokens() -> None:
    logits = torch.tensor([0.15, 0.5, 0.05, 0.3]).log().expand(4, 1, -1)
    rows = [
        Sampling(1.0),
        Sampling(1.0, top_k=2),
        Sampling(1.0, top_k=1000),
        Sampling(1.0, top_k=3, top_p=0.6),
    ]
    probabilities = SamplingRows.of(rows, CPU).probabilities(logits)[:, 0]
    everything = [0.15, 0.5, 0.05, 0.3]
    expected = [everything, [0, 0.625, 0, 0.375], everything, [0, 0.625, 0, 0.375]]
    torch.testing.assert_close(probabilities, torch.tensor(expected))


def test_a_verified_token_follows_p_and_is_accepted_as_often_as_p_and_q_overlap() -> None:
    num_rows = 200_000
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    generator = torch.Generator().manual_seed(0)
    uniforms = torch.rand(num_rows, 2, 2, generator=generator)
    drafted = draw(q.expand(num_rows, -1), uniforms[:, 1, :1])[:, None]
    target = p.expand(num_rows, 2, -1)
    draft = torch.stack((q, torch.zeros(3))).expand(num_rows, -1, -1)
    num_accepted, next_token = verify(target, draft, drafted, None, uniforms)
    first = torch.where(num_accepted == 1, drafted[:, 0], next_token)
    assert (first.bincount(minlength=3) / num_rows).tolist() == pytest.approx(p.tolist(), abs=0.005)
    assert num_accepted.float().mean().item() == pytest.approx(0.6, abs=0.005)


def test_a_draft_equal_to_the_target_is_always_accepted() -> None:
    p = torch.rand(500, 5, 7, generator=torch.Generator().manual_seed(1)).softmax(-1)
    q = p.clone()
    q[:, -1] = 0
    uniforms = Uniforms(CPU, seed=3).draw(500, 5, [])
    drafted = torch.stack([draw(q[:, j], uniforms[:, j + 1, :1]) for j in range(4)], dim=1)
    num_accepted, _ = verify(p, q, drafted, None, uniforms)
    assert (num_accepted == 4).all()


def test_a_seeded_row_gets_the_same_numbers_in_any_place_and_batch() -> None:
    uniforms = Uniforms(CPU, seed=0)

    def numbers(num_rows: int, width: int, place: int) -> list[object]:
        generator = uniforms.seeded(9)
        assert generator is not None
        drawn = [uniforms.draw(num_rows, width, [(place, 3, generator)]) for _ in range(2)]
        return [d[place, :3].tolist() for d in drawn]

    assert numbers(1, 3, 0) == numbers(7, 9, 4)


def test_the_prompt_store_forgets_the_least_recently_used_prompt() -> None:
    store = PromptStore(capacity_tokens=6)
    cache = KvCache(SMALL, num_slots=1, max_tokens=3, device=CPU, dtype=torch.float32)
    prompts = {(i,) * 3: PromptKv(cache, torch.zeros(1, 8)) for i in range(3)}
    store.put((0,) * 3, prompts[(0,) * 3])
    store.put((1,) * 3, prompts[(1,) * 3])
    assert store.get((0,) * 3) is prompts[(0,) * 3]
    store.put((2,) * 3, prompts[(2,) * 3])
    assert store.get((1,) * 3) is None
    assert store.get((0,) * 3) is prompts[(0,) * 3]
    assert store.get((2,) * 3) is prompts[(2,) * 3]
