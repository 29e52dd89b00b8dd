"""vLLM keeps the contract of engines, drafts as each branch asks, and says what it cannot do."""

import time
from collections import Counter
from pathlib import Path
from queue import SimpleQueue

import pytest

from scheduler.core.branch_options import PromptFormat
from tests.worker.engines.branches import branch, collect
from tests.worker.engines.contract import LONG_TOKENS, EngineContract
from tests.worker.engines.vllm.conftest import (
    DRAFT_LENGTHS,
    KV_CACHE_BYTES,
    write_served_checkpoint,
)
from worker.calibrate import Effort, calibrate
from worker.engines.base import BranchFinished, FinishReason, Sampling
from worker.engines.vllm import self_test
from worker.engines.vllm.engine import VllmEngine
from worker.engines.vllm.limits import VllmStartError
from worker.engines.vllm.settings import VllmSettings

Events = SimpleQueue[BranchFinished]

GREEDY = Sampling(temperature=0.0)
NUM_SAMPLES = 1600
"""Per sample of tokens; enough to see the fault of an unrepaired CPU, 0.09 to 0.25."""


def decode(engine: VllmEngine, *requests: object) -> list[BranchFinished]:
    """Decodes requests together and returns their events in order."""
    events: Events = SimpleQueue()
    engine.submit(requests, events)  # type: ignore[arg-type]
    finished = collect(events, len(requests))
    return [finished[request.branch_id] for request in requests]  # type: ignore[attr-defined]


def test_branches_of_one_batch_draft_as_long_as_each_asks_and_greedy_ones_agree(
    engine: VllmEngine, prompts: list[str]
) -> None:
    ended = decode(
        engine,
        *(
            branch(f"{k}", prompts[0], num_speculative_tokens=k, max_tokens=60, sampling=GREEDY)
            for k in DRAFT_LENGTHS
        ),
    )
    assert len({event.text for event in ended}) == 1
    for k, event in zip(DRAFT_LENGTHS, ended, strict=True):
        steps, drafted = event.metrics.num_steps, event.metrics.drafted_by_position
        # What follows the end of a branch in its last draft is not counted.
        assert all(steps - 1 <= count <= steps for count in drafted)
        assert len(drafted) == k
        assert steps + sum(event.metrics.accepted_by_position) in (59, 60)
    assert ended[-1].metrics.num_steps < ended[0].metrics.num_steps == 59


def test_drafts_do_not_change_the_distribution_of_what_is_sampled(
    engine: VllmEngine, prompts: list[str]
) -> None:
    def pairs(name: str, k: int) -> Counter[str]:
        """Counts the two tokens after the first, which both come from drafts."""
        ended = decode(
            engine,
            *(
                branch(
                    f"{name}:{i}",
                    prompts[0],
                    num_speculative_tokens=k,
                    max_tokens=4,
                    sampling=Sampling(temperature=1.0),
                )
                for i in range(NUM_SAMPLES)
            ),
        )
        return Counter(event.text[1:3] for event in ended)

    def distance(one: Counter[str], other: Counter[str]) -> float:
        """Total variation, of the second and the third token each."""
        return max(
            sum(
                abs(sum(n for p, n in one.items() if p[i] == token) - count)
                for token, count in _by_token(other, i).items()
            )
            / (2 * NUM_SAMPLES)
            for i in (0, 1)
        )

    plain, again, drafted = pairs("a", 0), pairs("b", 0), pairs("c", 4)
    noise = distance(plain, again)
    assert distance(plain, drafted) < noise + 0.04, noise


def _by_token(pairs: Counter[str], position: int) -> dict[str, int]:
    totals = dict.fromkeys("abcdefghijklmnop", 0)
    for pair, count in pairs.items():
        totals[pair[position]] += count
    return totals


def test_an_abort_takes_effect_within_a_step_and_tells_what_was_drafted(
    engine: VllmEngine, prompts: list[str]
) -> None:
    events: Events = SimpleQueue()
    requests = [
        branch(f"{k}", prompts[0], num_speculative_tokens=k, max_tokens=LONG_TOKENS)
        for k in DRAFT_LENGTHS
    ]
    engine.submit(requests, events)
    time.sleep(0.5)
    ended: dict[str, BranchFinished] = {}
    steps = []
    for request in requests:
        before = engine.totals()
        engine.abort([request.branch_id])
        ended |= collect(events, 1)
        steps.append(engine.totals().since(before).steps)
    # The step in which an abort arrives, and those whose outputs were on their way meanwhile: on a
    # busy machine these may be several, but not each time.
    assert min(steps) <= 3
    for name, event in ended.items():
        assert event.finish_reason == FinishReason.ABORT
        metrics = event.metrics
        assert metrics.drafted_by_position == (metrics.num_steps,) * int(name)
        assert metrics.completion_tokens == (
            1 + metrics.num_steps + sum(metrics.accepted_by_position)
        )


def test_branches_of_a_problem_share_its_prefill(engine: VllmEngine, prompts: list[str]) -> None:
    before = engine.totals()
    decode(engine, *(branch(f"{i}", prompts[0], branch_index=i) for i in range(4)))
    num_tokens = len(prompts[0])
    # All but the last block, which is not full, comes from the cache.
    assert engine.totals().since(before).prefill_tokens <= num_tokens + 3 * (num_tokens % 32 + 32)


def test_a_prompt_that_is_prefilled_in_chunks_is_decoded_like_others(
    engine: VllmEngine, prompts: list[str]
) -> None:
    long = prompts[0] + "abcdefghijklmnop" * 180
    assert len(long) > 2048
    ended = decode(
        engine,
        branch("alone", long, sampling=GREEDY),
        branch("again", long, num_speculative_tokens=4, sampling=GREEDY),
        branch("other", prompts[1], sampling=GREEDY),
    )
    assert {event.finish_reason for event in ended} == {FinishReason.LENGTH}
    assert ended[0].text == ended[1].text


def test_what_vllm_cannot_do_is_an_error_of_that_branch(
    engine: VllmEngine, prompts: list[str]
) -> None:
    ended = decode(
        engine,
        branch("seed", prompts[0], sampling=Sampling(seed=1)),
        branch("hot", prompts[0], sampling=Sampling(temperature=3.0)),
        branch("long", "a" * engine.spec.max_model_len),
        branch("chat", prompts[0], prompt_format=PromptFormat.CHAT),
        branch("budget", prompts[0], sampling=Sampling(thinking_token_budget=9)),
        branch("fine", prompts[0]),
    )
    assert [event.finish_reason for event in ended] == [FinishReason.ERROR] * 5 + [
        FinishReason.LENGTH
    ]
    words = ("seed", "temperature", "shorten", "chat template", "thinking_token_budget")
    for event, word in zip(ended, words, strict=False):
        assert event.error is not None
        assert word in event.error


def test_a_stop_string_ends_a_branch(engine: VllmEngine, prompts: list[str]) -> None:
    [plain] = decode(engine, branch("a", prompts[0], max_tokens=40, sampling=GREEDY))
    stop = plain.text[20:22]
    [cut] = decode(
        engine,
        branch("b", prompts[0], max_tokens=40, sampling=Sampling(temperature=0.0, stop=(stop,))),
    )
    assert cut.finish_reason == FinishReason.STOP
    assert cut.text == plain.text[: plain.text.index(stop)]


def test_a_branch_goes_on_from_what_it_is_given(engine: VllmEngine, prompts: list[str]) -> None:
    [whole] = decode(engine, branch("a", prompts[0], max_tokens=30, sampling=GREEDY))
    [rest] = decode(
        engine,
        branch("b", prompts[0], partial=whole.text[:12], max_tokens=18, sampling=GREEDY),
    )
    assert rest.text == whole.text[12:]


def test_steps_and_prefills_are_timed_on_an_idle_engine(
    engine: VllmEngine, prompts: list[str]
) -> None:
    steps = engine.measure_step(rows=3, num_speculative_tokens=4, context_tokens=300, repeats=5)
    prefills = engine.measure_prefill(prompt_tokens=50, repeats=2)
    assert (len(steps), len(prefills)) == (5, 2)
    assert all(0 < seconds < 30 for seconds in (*steps, *prefills))
    with pytest.raises(ValueError, match="outside"):
        engine.measure_step(rows=5, num_speculative_tokens=0, context_tokens=90)
    # What was timed does not count as the context of branches that come after it.
    before = engine.totals()
    [event] = decode(engine, branch("after", prompts[0], max_tokens=20))
    did, metrics = engine.totals().since(before), event.metrics
    assert did.context_tokens < did.rows * (metrics.prompt_tokens + metrics.completion_tokens)
    events: Events = SimpleQueue()
    engine.submit([branch("a", prompts[0], max_tokens=LONG_TOKENS)], events)
    with pytest.raises(RuntimeError, match="serves branches"):
        engine.measure_prefill(prompt_tokens=8)
    engine.abort(["a"])
    collect(events, 1)


def test_drafts_that_are_not_made_or_not_asked_for_fail_the_self_test(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(lengths: tuple[int, ...]) -> None:
        engine._loop.call(self_test.run_self_test(engine._llm, lengths))

    run(DRAFT_LENGTHS)
    monkeypatch.setattr(self_test, "DRAFT_LENGTH", "not_the_key")
    # Without the key vLLM drafts as long as it can.
    with pytest.raises(self_test.SelfTestError, match="given 4 draft tokens"):
        run((0, 1))


class TestVllmEngine(EngineContract):
    """The contract, on a tiny random pair of models. Its last test closes the engine."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (VllmSettings(kv_cache_bytes=1 << 50), "memory.*SLACKLINE_VLLM__KV_CACHE_BYTES"),
        (VllmSettings(dtype="float7"), "float7"),
        (VllmSettings(engine_args={"no_such_thing": 1}), "no_such_thing"),
    ],
    ids=["memory", "dtype", "argument"],
)
def test_a_start_that_fails_says_what_to_set(
    checkpoints: tuple[Path, Path], settings: VllmSettings, message: str
) -> None:
    with pytest.raises(VllmStartError, match=message):
        VllmEngine(*checkpoints, settings, model="tiny", max_num_seqs=4)


def test_a_wrong_checkpoint_fails_the_start_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(VllmStartError, match=r"no config\.json"):
        VllmEngine(tmp_path, model="none")
    broken = write_served_checkpoint(tmp_path / "broken", seed=1)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(VllmStartError, match="SafetensorError"):
        VllmEngine(broken, None, VllmSettings(kv_cache_bytes=KV_CACHE_BYTES), model="broken")


def test_a_shape_without_weights_is_calibrated_with_drafts_of_n_grams(
    checkpoints: tuple[Path, Path],
) -> None:
    settings = VllmSettings(
        drafter="ngram", draft_lengths=(0, 2), load_format="dummy", kv_cache_bytes=KV_CACHE_BYTES
    )
    effort = Effort((1, 4, 8), (0, 2), (64, 128), (32, 64), 3, 4, 2, 10.0)
    engine = VllmEngine(checkpoints[0], None, settings, model="shape", max_num_seqs=8)
    try:
        profile = calibrate(engine, ["abcabcabcabcabc"], effort, device="this machine")
    finally:
        engine.close()
    assert (profile.engine, profile.model) == ("vllm", "shape")
    assert float(profile.step_time_s(8, 2, 8 * 128)) > 0
    assert len(profile.acceptance) == 2
    assert profile.acceptance_tries[0] > 0
