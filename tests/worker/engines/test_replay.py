"""The replay engine keeps the contract and says what was recorded, when the profile says."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from tests.worker.engines.branches import branch
from tests.worker.engines.contract import LONG_TOKENS, EngineContract
from worker.engines.base import BranchFinished, FinishReason
from worker.engines.replay import ReplayEngine, VirtualReplayEngine, load_recordings

PROMPTS = ["What is 3 + 4?", "What is 5 + 6?"]
START = datetime(2026, 1, 1, tzinfo=UTC)
PROFILE = LatencyProfile(
    engine="replay",
    model="m",
    device="none",
    method="made up",
    measured_at="2026-01-01",
    base_s=0.002,
    token_slopes_s=(0.00005,),
    prefill_base_s=0.001,
    acceptance=(0.8, 0.7, 0.6),
)
SPEC = EngineSpec(
    engine="replay",
    model="m",
    max_num_seqs=4,
    max_model_len=4096,
    draft_lengths=(0, 1, 3),
    kv_capacity_tokens=4 * 4096,
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Recordings of two models on two problems, and the problem set."""
    rows = [
        {
            "dataset": "sums",
            "model": model,
            "problem_num": number,
            "answers": ["7", "", "\\frac{1}{2}"],
            "sample_answer": [i % 3 for i in range(40)],
            # Two failed requests, then lengths that tell the samples apart.
            "sample_tokens": [0, 0, *(LONG_TOKENS + 100 * number + i for i in range(38))],
        }
        for model in ("m", "other")
        for number in range(2)
    ]
    recordings, problems = tmp_path / "recorded.jsonl.gz", tmp_path / "problems.jsonl"
    recordings.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    problems.write_text("".join(json.dumps({"id": p, "prompt": p}) + "\n" for p in PROMPTS))
    return recordings, problems


@pytest.fixture
def engine(files: tuple[Path, Path]) -> Iterator[ReplayEngine]:
    made = ReplayEngine(SPEC, PROFILE, load_recordings(*files, model="m"))
    yield made
    made.close()


@pytest.fixture
def prompts() -> list[str]:
    return PROMPTS


class TestReplayEngine(EngineContract):
    """The contract, on the real clock."""


def virtual(files: tuple[Path, Path], seed: int = 0) -> VirtualReplayEngine:
    return VirtualReplayEngine(SPEC, PROFILE, load_recordings(*files, model="m", seed=seed), START)


def run_all(engine: VirtualReplayEngine, *requests: object) -> dict[str, BranchFinished]:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit(requests, events)  # type: ignore[arg-type]
    while (at := engine.next_event_at()) is not None:
        engine.advance_to(at)
    assert events.qsize() == len(requests)
    return {event.branch_id: event for event in (events.get() for _ in requests)}


def test_branches_replay_every_sample_once_before_any_again(files: tuple[Path, Path]) -> None:
    requests = [branch(f"{i}", PROMPTS[1], branch_index=i, max_tokens=3000) for i in range(38)]
    finished = run_all(virtual(files), *requests)
    tokens = sorted(event.metrics.completion_tokens for event in finished.values())
    assert tokens == [LONG_TOKENS + 100 + i for i in range(38)]
    texts = Counter(event.text for event in finished.values())
    assert texts == {"\\boxed{7}": 13, "": 12, "\\boxed{\\frac{1}{2}}": 13}
    assert {event.finish_reason for event in finished.values()} == {FinishReason.STOP}


def test_another_seed_gives_another_order_and_the_same_seed_the_same(
    files: tuple[Path, Path],
) -> None:
    def tokens(seed: int) -> list[int]:
        requests = [branch(f"{i}", PROMPTS[0], branch_index=i, max_tokens=3000) for i in range(8)]
        finished = run_all(virtual(files, seed), *requests)
        return [finished[f"{i}"].metrics.completion_tokens for i in range(8)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_a_branch_cut_by_its_cap_has_no_answer(files: tuple[Path, Path]) -> None:
    finished = run_all(virtual(files), branch("a", PROMPTS[0], max_tokens=LONG_TOKENS - 1))["a"]
    assert finished.finish_reason is FinishReason.LENGTH
    assert finished.text == ""
    assert finished.metrics.completion_tokens == LONG_TOKENS - 1


def test_an_unknown_prompt_is_an_error_that_says_so(files: tuple[Path, Path]) -> None:
    finished = run_all(virtual(files), branch("a", "What is 1 + 1?"))["a"]
    assert finished.finish_reason is FinishReason.ERROR
    assert finished.error is not None
    assert "recorded problem" in finished.error


def test_a_branch_takes_the_time_of_the_profile(files: tuple[Path, Path]) -> None:
    engine = virtual(files)
    finished = run_all(engine, branch("a", PROMPTS[0], max_tokens=1001, num_speculative_tokens=3))[
        "a"
    ]
    steps = 1000 / float(PROFILE.mean_acceptance_length(3))
    expected_s = float(PROFILE.prefill_time_s(4)) + steps * float(PROFILE.step_time_s(1, 3, 0))
    took = finished.metrics.finished_at - START
    assert took.total_seconds() == pytest.approx(expected_s, rel=1e-3)
    accepted = finished.metrics.accepted_by_position
    assert [a / finished.metrics.num_steps for a in accepted] == pytest.approx(
        [0.8, 0.56, 0.336], abs=0.01
    )


def test_the_real_clock_keeps_to_the_virtual_one(engine: ReplayEngine) -> None:
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    engine.submit([branch("a", PROMPTS[0], max_tokens=101)], events)
    metrics = events.get(timeout=10).metrics
    late = datetime.now(UTC) - metrics.finished_at
    expected_s = 0.001 + 100 * float(PROFILE.step_time_s(1, 0, 0))
    modeled = metrics.finished_at - metrics.queued_at
    assert modeled.total_seconds() == pytest.approx(expected_s, rel=0.01)
    assert timedelta(0) <= late < timedelta(seconds=0.5)


@pytest.mark.parametrize("model", [None, "absent"])
def test_recordings_that_leave_a_choice_or_none_are_refused(
    files: tuple[Path, Path], model: str | None
) -> None:
    with pytest.raises(ValueError, match=r"two rows|no samples"):
        load_recordings(*files, model=model)
