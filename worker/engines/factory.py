"""Builds the engine that the settings name, with the profiles that the scheduler plans by."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from worker.engines.base import Engine
from worker.engines.replay import ReplayEngine, load_recordings
from worker.settings import WorkerSettings


class SettingsError(ValueError):
    """The settings name no engine that can be built; the message says what to add."""


@dataclass(frozen=True, slots=True)
class Served:
    """An engine and what is known of it."""

    engine: Engine
    latency: LatencyProfile
    answers: AnswerProfile


def build_engine(settings: WorkerSettings) -> Served:
    """Load the engine; seconds for a small checkpoint, and it holds memory until closed.

    Raises:
        SettingsError: A needed setting is missing.
        ValueError: A file is not what its setting says.
    """
    if settings.engine == "replay":
        return _build_replay(settings)
    raise SettingsError("engine torch needs --model-dir")


def _build_replay(settings: WorkerSettings) -> Served:
    if settings.recordings is None:
        raise SettingsError("the replay engine needs recordings: set --recordings FILE")
    if settings.latency_profile is None:
        raise SettingsError("the replay engine needs a modeled latency: set --latency-profile FILE")
    latency = read_latency_profile(settings.latency_profile)
    model = settings.model or settings.recorded_model or latency.model
    recordings = load_recordings(
        settings.recordings,
        settings.problems or settings.recordings.with_name("problems.jsonl"),
        model=settings.recorded_model,
        dataset=settings.recorded_dataset,
    )
    max_num_seqs = settings.max_num_seqs or 64
    max_model_len = 32768
    spec = EngineSpec(
        engine="replay",
        model=model,
        max_num_seqs=max_num_seqs,
        max_model_len=max_model_len,
        draft_lengths=tuple(range(len(latency.acceptance) + 1)),
        kv_capacity_tokens=max_num_seqs * max_model_len,
    )
    return Served(ReplayEngine(spec, latency, recordings), latency, _answers(settings, model))


def read_latency_profile(path: Path) -> LatencyProfile:
    """Read a latency profile.

    Raises:
        ValueError: The file holds none.
    """
    return LatencyProfile.from_dict(orjson.loads(path.read_bytes()))


def _answers(settings: WorkerSettings, model: str) -> AnswerProfile:
    if settings.answer_profile is None:
        return AnswerProfile.uninformed(model)
    return AnswerProfile.from_dict(orjson.loads(settings.answer_profile.read_bytes()))
