"""Builds the engine that the settings name, with the profiles that the scheduler plans by."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from worker.calibrate import FULL, MeasurableEngine
from worker.engines.apart.engine import EngineApart
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

OnDeath: TypeAlias = Callable[[str], None]
"""Called once, with the reason, when the engine died and the process is to be replaced."""

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


def build_engine(settings: WorkerSettings, on_death: OnDeath | None = None) -> Served:
    """Load the engine; seconds for a small checkpoint, and it holds memory until closed.

    Args:
        on_death: What to do when the engine dies.

    Raises:
        SettingsError: A needed setting is missing, or a file is not what its setting says.
    """
    if settings.engine == "replay":
        return _build_replay(settings)
    return _build_measured(settings, on_death)


def calibrate_engine(settings: WorkerSettings, output: Path | None = None) -> Path:
    """Measure an engine thoroughly, minutes on a CPU, and write its profile.

    Args:
        output: By default where a worker with these settings looks for it at its start.

    Raises:
        SettingsError: A needed setting is missing, or the engine only replays.
    """
    if settings.engine == "replay":
        raise SettingsError("a replay cannot be measured: set --engine torch, vllm or openai")
    engine = _load(settings)
    try:
        path = output or kept_profile_path(settings, engine.spec.max_num_seqs)
        measure_latency(settings, engine, FULL, path)
    finally:
        engine.close()
    return path


def _build_measured(settings: WorkerSettings, on_death: OnDeath | None) -> Served:
    engine = _load(settings, on_death)
    try:
        latency = measured_latency(settings, engine)
        return Served(engine, latency, known_answers(settings, engine.spec.model))
    except BaseException:
        engine.close()
        raise


def _load(settings: WorkerSettings, on_death: OnDeath | None = None) -> MeasurableEngine:
    if settings.engine == "openai":
        return _load_openai(settings)
    if settings.model_dir is None:
        raise SettingsError(
            f"the {settings.engine} engine needs a checkpoint: set --model-dir FOLDER"
        )
    if settings.engine == "vllm":
        return _load_vllm(settings, settings.model_dir, on_death)
    return EngineApart(partial(_load_torch, settings, settings.model_dir), on_death=on_death)


def _load_vllm(
    settings: WorkerSettings, model_dir: Path, on_death: OnDeath | None
) -> MeasurableEngine:
    try:
        from worker.engines.vllm.engine import VllmEngine
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"vLLM is not installed here ({error}): run `make install-vllm`, or"
            " `make install-vllm-cpu` on a machine without a GPU"
        ) from None
    from worker.engines.vllm.limits import VllmStartError
    from worker.engines.vllm.self_test import SelfTestError

    try:
        return VllmEngine(
            model_dir,
            settings.draft_dir,
            settings.vllm,
            model=settings.model or model_dir.resolve().name,
            max_num_seqs=settings.max_num_seqs or 64,
            on_death=on_death,
        )
    except (VllmStartError, SelfTestError) as error:
        raise SettingsError(str(error)) from None


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


def _load_torch(settings: WorkerSettings, model_dir: Path) -> MeasurableEngine:
    # Torch takes seconds to import; only the child that decodes with it needs it.
    import torch
    from safetensors import SafetensorError

    from worker.engines.torch.engine import TorchEngine

    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError("torch sees no CUDA device here: leave --device out to run on the CPU")
    with _as_settings_error("the checkpoint cannot be loaded", SafetensorError, RuntimeError):
        return TorchEngine.load(
            model_dir,
            settings.draft_dir,
            model=settings.model or model_dir.resolve().name,
            max_num_seqs=settings.max_num_seqs or 64,
            device=settings.device,
        )


def _build_replay(settings: WorkerSettings) -> Served:
    if settings.recordings is None:
        raise SettingsError("the replay engine needs recordings: set --recordings FILE")
    if settings.latency_profile is None:
        raise SettingsError("the replay engine needs a modeled latency: set --latency-profile FILE")
    with _as_settings_error("the latency profile cannot be read"):
        latency = read_latency(settings.latency_profile)
    model = settings.model or settings.recorded_model or latency.model
    with _as_settings_error("the recordings cannot be read"):
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


@contextmanager
def _as_settings_error(what: str, *more: type[Exception]) -> Iterator[None]:
    """Say which setting a file that is missing or wrong came from, instead of where it failed."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, *more)
    try:
        yield
    except expected as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SettingsError(f"{what}: {reason}") from error
