"""Builds the engine that the settings name, with the profiles that the scheduler plans by."""

from dataclasses import dataclass
from pathlib import Path

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from worker.calibrate import FULL, MeasurableEngine
from worker.engines.base import Engine
from worker.engines.replay import ReplayEngine, load_recordings
from worker.profiles import (
    kept_profile_path,
    known_answers,
    measure_latency,
    measured_latency,
    read_latency,
)
from worker.settings import WorkerSettings

REPLAY_MAX_NUM_SEQS = 64
REPLAY_MAX_MODEL_LEN = 32768
"""Room for the longest recorded branches."""


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
    return _build_measured(settings)


def calibrate_engine(settings: WorkerSettings, output: Path | None = None) -> Path:
    """Measure an engine thoroughly, minutes on a CPU, and write its profile.

    Args:
        output: By default where a worker with these settings looks for it at its start.

    Raises:
        SettingsError: A needed setting is missing, or the engine only replays.
    """
    if settings.engine == "replay":
        raise SettingsError("a replay cannot be measured: set --engine torch or openai")
    engine = _load(settings)
    try:
        path = output or kept_profile_path(settings, engine.spec.max_num_seqs)
        measure_latency(settings, engine, FULL, path)
    finally:
        engine.close()
    return path


def _build_measured(settings: WorkerSettings) -> Served:
    engine = _load(settings)
    try:
        latency = measured_latency(settings, engine)
        return Served(engine, latency, known_answers(settings, engine.spec.model))
    except BaseException:
        engine.close()
        raise


def _load(settings: WorkerSettings) -> MeasurableEngine:
    return _load_openai(settings) if settings.engine == "openai" else _load_torch(settings)


def _load_openai(settings: WorkerSettings) -> MeasurableEngine:
    if settings.endpoint.base_url is None:
        raise SettingsError("the openai engine needs a server: set --base-url URL")
    from worker.engines.openai.endpoint import EndpointError
    from worker.engines.openai.engine import OpenAIEngine

    max_num_seqs = settings.max_num_seqs or 64
    try:
        return OpenAIEngine(settings.endpoint, model=settings.model, max_num_seqs=max_num_seqs)
    except EndpointError as error:
        raise SettingsError(str(error)) from None


def _load_torch(settings: WorkerSettings) -> MeasurableEngine:
    if settings.model_dir is None:
        raise SettingsError("the torch engine needs a checkpoint: set --model-dir FOLDER")
    # Torch takes seconds to import, and the replay engine does without it.
    from worker.engines.torch.engine import TorchEngine

    return TorchEngine.load(
        settings.model_dir,
        settings.draft_dir,
        model=settings.model or settings.model_dir.resolve().name,
        max_num_seqs=settings.max_num_seqs or 64,
        device=settings.device,
    )


def _build_replay(settings: WorkerSettings) -> Served:
    if settings.recordings is None:
        raise SettingsError("the replay engine needs recordings: set --recordings FILE")
    if settings.latency_profile is None:
        raise SettingsError("the replay engine needs a modeled latency: set --latency-profile FILE")
    latency = read_latency(settings.latency_profile)
    model = settings.model or settings.recorded_model or latency.model
    recordings = load_recordings(
        settings.recordings,
        settings.problems or settings.recordings.with_name("problems.jsonl"),
        model=settings.recorded_model,
        dataset=settings.recorded_dataset,
    )
    max_num_seqs = settings.max_num_seqs or REPLAY_MAX_NUM_SEQS
    spec = EngineSpec(
        engine="replay",
        model=model,
        max_num_seqs=max_num_seqs,
        max_model_len=REPLAY_MAX_MODEL_LEN,
        draft_lengths=tuple(range(len(latency.acceptance) + 1)),
        kv_capacity_tokens=max_num_seqs * REPLAY_MAX_MODEL_LEN,
    )
    engine = ReplayEngine(spec, latency, recordings)
    return Served(engine, latency, known_answers(settings, model))
