"""Calibration finds the latency and the acceptance of an engine whose truth is known."""

import math
import multiprocessing
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import orjson
import pytest

from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from tests.worker.engines.checkpoints import write_checkpoint
from tests.worker.recorded import prompt_of, write_recordings
from worker.calibrate import MAX_TRIES, QUICK, Effort, calibrate, is_still_true
from worker.engines.base import BranchFinished, BranchRequest
from worker.engines.factory import SettingsError, build_engine
from worker.engines.replay import VirtualReplayEngine, load_recordings
from worker.profiles import known_answers, read_answers, read_latency, write_profile
from worker.settings import WorkerSettings

TRUTH = LatencyProfile(
    engine="replay",
    model="demo",
    device="none",
    method="made up",
    measured_at="2026-01-01",
    base_s=0.004,
    token_slopes_s=(0.0002,),
    context_s=2e-7,
    draft_base_s=0.0005,
    draft_row_s=0.00005,
    prefill_base_s=0.001,
    prefill_token_s=0.0001,
    acceptance=(0.8, 0.7, 0.6),
)
SPEC = EngineSpec("replay", "demo", 64, 2048, (0, 1, 2, 3), 64 * 2048)
TINY_EFFORT = Effort((1, 4, 16, 64), (0, 1, 3), (64, 256), (32, 128), 5, 16, 3, 60.0)


class KnownEngine:
    """A replay engine whose steps take what the truth says, give or take two percent.

    Args:
        decode_ratio: How much longer decoding takes than steps timed alone say.
        clock: What a clock that is read in bunches tells of each step's time, for the first
            measurements of the grid of `TINY_EFFORT`.
    """

    def __init__(
        self,
        recordings: Path,
        decode_ratio: float = 1.0,
        spec: EngineSpec = SPEC,
        clock: Sequence[float] = (),
    ) -> None:
        self.spec = spec
        self._tells = [tells for tells in clock for _ in range(24)]
        self.timed: set[int] = set()
        self.submitted: list[int] = []
        loaded = load_recordings(recordings, recordings.with_name("problems.jsonl"))
        now = datetime.now(UTC)
        self._virtual = VirtualReplayEngine(spec, TRUTH.scaled(decode_ratio), loaded, now)
        self._rng = np.random.default_rng(0)

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        self.submitted.append(len(requests))
        self._virtual.submit(requests, events)
        while (at := self._virtual.next_event_at()) is not None:
            self._virtual.advance_to(at)

    def totals(self) -> EngineTotals:
        return self._virtual.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        self._virtual.abort(branch_ids, only_waiting=only_waiting)

    def close(self) -> None:
        self._virtual.close()

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int
    ) -> tuple[float, ...]:
        self.timed.add(num_speculative_tokens)
        time_s = float(TRUTH.step_time_s(rows, num_speculative_tokens, context_tokens))
        if self._tells:
            time_s *= self._tells.pop(0)
        return tuple(time_s * np.exp(0.02 * self._rng.standard_normal(repeats)))

    def measure_prefill(self, *, prompt_tokens: int, repeats: int) -> tuple[float, ...]:
        time_s = float(TRUTH.prefill_time_s(prompt_tokens))
        return tuple(time_s * np.exp(0.02 * self._rng.standard_normal(repeats)))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_recordings(tmp_path, [[("7", 150 + i) for i in range(16)]] * 4)


def test_a_known_profile_is_recovered(recordings: Path) -> None:
    prompts = [prompt_of(number) for number in range(4)]
    found = calibrate(KnownEngine(recordings), prompts, TINY_EFFORT, device="none")
    for rows, k, context in [(1, 0, 100), (8, 2, 2000), (64, 3, 20000), (32, 1, 5000)]:
        expected = float(TRUTH.step_time_s(rows, k, context))
        assert float(found.step_time_s(rows, k, context)) == pytest.approx(expected, rel=0.1)
    assert float(found.prefill_time_s(200)) == pytest.approx(0.021, rel=0.1)
    assert found.acceptance == pytest.approx(TRUTH.acceptance, abs=0.03)
    assert found.residual_sigma < 0.1
    assert "24 measured points" in found.method


def test_the_longest_draft_served_is_timed_whatever_is_asked(recordings: Path) -> None:
    engine = KnownEngine(recordings, spec=replace(SPEC, draft_lengths=(0, 1, 2, 3, 5)))
    effort = replace(TINY_EFFORT, draft_lengths=(0, 1, 3))
    calibrate(engine, [prompt_of(number) for number in range(4)], effort, device="none")
    assert engine.timed == {0, 1, 3, 5}


def test_times_are_those_of_decoding_and_not_of_steps_alone(recordings: Path) -> None:
    prompts = [prompt_of(number) for number in range(4)]
    found = calibrate(KnownEngine(recordings, 1.3), prompts, TINY_EFFORT, device="none")
    expected = 1.3 * float(TRUTH.step_time_s(16, 3, 5000))
    assert float(found.step_time_s(16, 3, 5000)) == pytest.approx(expected, rel=0.05)
    assert "1.3" in found.method


@pytest.mark.parametrize(
    ("clock", "num_tries", "ratio"),
    [((0.001,), 2, 1.0), ((0.001, 0.5), 2, 2.0), ((0.001, 0.1, 0.01), MAX_TRIES, 10.0)],
)
def test_steps_that_decoding_contradicts_are_timed_again(
    recordings: Path, clock: tuple[float, ...], num_tries: int, ratio: float
) -> None:
    engine = KnownEngine(recordings, clock=clock)
    prompts = [prompt_of(number) for number in range(4)]
    found = calibrate(engine, prompts, TINY_EFFORT, device="none")
    assert len(engine.submitted) == num_tries * TINY_EFFORT.num_runs
    # The one that is contradicted least counts, and decoding sets it right.
    [told] = re.findall(r"took (\S+) times", found.method)
    assert float(told) == pytest.approx(ratio, rel=0.2)
    expected = float(TRUTH.step_time_s(16, 3, 5000))
    assert float(found.step_time_s(16, 3, 5000)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("max_num_seqs", [8, 64])
def test_what_is_decoded_fills_the_engine(recordings: Path, max_num_seqs: int) -> None:
    engine = KnownEngine(recordings, spec=replace(SPEC, max_num_seqs=max_num_seqs))
    calibrate(engine, [prompt_of(number) for number in range(4)], QUICK, device="none")
    assert engine.submitted == [max_num_seqs] * QUICK.num_runs


def test_few_drafts_are_known_to_be_few(recordings: Path) -> None:
    prompts = [prompt_of(number) for number in range(4)]
    found = calibrate(KnownEngine(recordings), prompts, TINY_EFFORT, device="none")
    assert len(found.acceptance_tries) == 3
    assert found.run_sigma(3) > found.run_sigma(0)


def test_a_kept_profile_is_true_until_the_machine_is_slower(recordings: Path) -> None:
    prompts = [prompt_of(number) for number in range(4)]
    assert is_still_true(TRUTH, KnownEngine(recordings), prompts)
    assert not is_still_true(TRUTH, KnownEngine(recordings, 1.3), prompts)


def test_workers_that_start_together_write_one_whole_profile(tmp_path: Path) -> None:
    path = tmp_path / "profiles" / "one.json"
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        processes.starmap(write_profile, [(TRUTH, path)] * 400, chunksize=1)
    assert read_latency(path) == TRUTH
    assert list(path.parent.iterdir()) == [path]


def settings(tmp_path: Path, **overrides: object) -> WorkerSettings:
    given = {"name": "w", "database_url": "postgresql://", "redis_url": "redis://"}
    return WorkerSettings(**(given | {"data_dir": tmp_path / "data"} | overrides))  # type: ignore[arg-type]


def test_a_torch_worker_measures_itself_once_and_then_remembers(tmp_path: Path) -> None:
    target = write_checkpoint(tmp_path / "target", seed=1)
    draft = write_checkpoint(tmp_path / "draft", seed=2, hidden_size=16, num_layers=1, num_heads=2)
    problems = tmp_path / "problems.jsonl"
    problems.write_bytes(orjson.dumps({"id": "1", "prompt": "abc"}))
    chosen = settings(
        tmp_path, model_dir=target, draft_dir=draft, problems=problems, max_num_seqs=4
    )
    first = build_engine(chosen)
    first.engine.close()
    assert first.latency.base_s > 0
    assert len(first.latency.acceptance) == 8
    assert math.isfinite(first.latency.residual_sigma)
    # A shared machine may be slower by now than it said; a profile that says so is believed.
    tolerant = replace(first.latency, residual_sigma=10.0)
    (kept,) = (tmp_path / "data" / "profiles").iterdir()
    write_profile(tolerant, kept)
    again = build_engine(chosen)
    again.engine.close()
    assert again.latency == tolerant
    write_profile(first.latency.scaled(1e-3), kept)
    third = build_engine(chosen)
    third.engine.close()
    assert third.latency.base_s > first.latency.base_s * 1e-3
    assert read_latency(kept) == third.latency


def test_recordings_teach_the_answers_of_a_torch_model_and_not_of_a_replayed_one(
    tmp_path: Path, recordings: Path
) -> None:
    rows = [orjson.loads(line) for line in recordings.read_bytes().splitlines()]
    recordings.write_bytes(b"\n".join(orjson.dumps({**row, "classes": [0]}) for row in rows))
    learned = known_answers(settings(tmp_path, recordings=recordings), "demo")
    assert learned.num_branches_seen == 64
    replayed = known_answers(settings(tmp_path, engine="replay", recordings=recordings), "demo")
    assert replayed.num_branches_seen == 0
    path = tmp_path / "answers.json"
    write_profile(learned, path)
    assert read_answers(path) == learned


@pytest.mark.parametrize("engine", ["torch", "replay"])
def test_an_engine_without_its_files_says_which_setting_is_missing(
    tmp_path: Path, engine: str
) -> None:
    with pytest.raises(SettingsError, match="set --"):
        build_engine(settings(tmp_path, engine=engine))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "torch", "model_dir": "gone"}, "checkpoint cannot be loaded: .*gone"),
        ({"engine": "torch", "model_dir": "."}, "checkpoint cannot be loaded: .*config.json"),
        (
            {"engine": "replay", "recordings": "gone", "latency_profile": "gone"},
            "latency profile cannot be read: .*gone",
        ),
    ],
)
def test_a_file_that_is_not_what_its_setting_says_is_named(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    engine = options.pop("engine")
    paths = {name: tmp_path / path for name, path in options.items()}
    with pytest.raises(SettingsError, match=message):
        build_engine(settings(tmp_path, engine=engine, **paths))
