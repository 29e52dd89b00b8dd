"""Finds a worker's profiles: given, kept from an earlier start, fitted or measured now."""

import gzip
import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import orjson
import structlog

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.fit import RecordedProblem, fit_answers
from scheduler.core.latency import LatencyProfile
from scheduler.core.recorded import mark_cut
from worker.calibrate import QUICK, Effort, MeasurableEngine, calibrate, is_still_true
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

_SAMPLED_BYTES = 2**20


def read_latency(path: Path) -> LatencyProfile:
    """Read a latency profile.

    Raises:
        ValueError: The file holds none.
    """
    return LatencyProfile.from_dict(orjson.loads(path.read_bytes()))


def read_answers(path: Path) -> AnswerProfile:
    """Read an answer profile.

    Raises:
        ValueError: The file holds none.
    """
    return AnswerProfile.from_dict(orjson.loads(path.read_bytes()))


def write_profile(profile: LatencyProfile | AnswerProfile, path: Path) -> None:
    """Write a profile as JSON; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Workers that start together measure the same checkpoint and write the same file.
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    draft.write_bytes(orjson.dumps(profile.to_dict(), option=orjson.OPT_INDENT_2))
    draft.replace(path)


def measured_latency(settings: WorkerSettings, engine: MeasurableEngine) -> LatencyProfile:
    """The profile given, or that of this checkpoint on this machine.

    The latter is measured at its first use, and anew when the machine no longer decodes as it
    says.
    """
    if settings.latency_profile is not None:
        return read_latency(settings.latency_profile)
    kept = kept_profile_path(settings, engine.spec.max_num_seqs)
    if kept.exists():
        try:
            profile = read_latency(kept)
        except ValueError as error:
            log.warning("profile.not_readable", path=str(kept), error=str(error))
        else:
            if is_still_true(profile, engine, read_prompts(settings.problems)):
                return profile
            log.warning("profile.outdated", path=str(kept))
    log.info("profile.measuring", model=engine.spec.model)
    return measure_latency(settings, engine, QUICK, kept)


def measure_latency(
    settings: WorkerSettings, engine: MeasurableEngine, effort: Effort, path: Path
) -> LatencyProfile:
    """Measure the engine on this machine and write its profile."""
    prompts = read_prompts(settings.problems)
    profile = calibrate(engine, prompts, effort, device=_device_of(settings))
    write_profile(profile, path)
    log.info("profile.measured", path=str(path), method=profile.method)
    return profile


def known_answers(settings: WorkerSettings, model: str) -> AnswerProfile:
    """The profile given, or one fitted to recorded branches of this model, or the prior."""
    if settings.answer_profile is not None:
        return read_answers(settings.answer_profile)
    # The replay engine's recordings are what will be asked, so a fit would know the answers.
    if settings.engine != "replay" and settings.recordings is not None:
        recorded = read_recorded_problems(settings.recordings)
        source = f"fitted to {settings.recordings.name}"
        return fit_answers(recorded, model=model, family="recorded", source=source)
    return AnswerProfile.uninformed(model)


def read_recorded_problems(path: Path) -> list[RecordedProblem]:
    """Read recorded branches (JSON lines, gzip or not); failed requests of no tokens are dropped.

    Raises:
        ValueError: A line is no recording.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    problems = []
    for row in map(orjson.loads, data.splitlines()):
        pairs = zip(row["sample_answer"], row["sample_tokens"], strict=True)
        branches = [(row["classes"][answer], tokens) for answer, tokens in pairs if tokens > 0]
        if branches:
            classes = tuple(None if vote < 0 else vote for vote, _ in branches)
            problems.append(RecordedProblem(classes, tuple(tokens for _, tokens in branches)))
    return mark_cut(problems)


def read_prompts(problems: Path | None, limit: int = 64) -> list[str]:
    """The first prompts of a problem set; none without a file."""
    if problems is None:
        return []
    lines = problems.read_bytes().splitlines()[:limit]
    return [orjson.loads(line)["prompt"] for line in lines]


def _device_of(settings: WorkerSettings) -> str:
    if settings.engine == "openai":
        return f"what serves {settings.endpoint.base_url}, seen from {platform.node()}"
    if settings.engine == "vllm":
        # Which device it is was decided when vLLM was installed.
        from vllm.platforms import current_platform

        return device_name("cpu" if current_platform.is_cpu() else "cuda")
    return device_name(settings.device)


def device_name(device: str) -> str:
    """The device in words, as a profile names it."""
    host = f"{platform.machine()} CPU, {os.cpu_count()} cores, {platform.node()}"
    if not device.startswith("cuda"):
        return host
    import torch

    return f"{torch.cuda.get_device_name(device)} ({host})"


def kept_profile_path(settings: WorkerSettings, max_num_seqs: int) -> Path:
    """Where the profile of this checkpoint on this machine is kept, or of this endpoint."""
    if settings.engine == "openai":
        served = f"{settings.model} {settings.endpoint.model_dump_json(exclude={'api_key'})}"
        digest = hashlib.sha256(served.encode()).hexdigest()[:16]
        return settings.data_dir / "profiles" / f"{digest}-endpoint-{max_num_seqs}.json"
    weights = [folder for folder in (settings.model_dir, settings.draft_dir) if folder]
    place = settings.device
    if settings.engine == "vllm":
        place = f"vllm-{hashlib.sha256(settings.vllm.model_dump_json().encode()).hexdigest()[:8]}"
    name = f"{_hash_of(weights)}-{place}-{max_num_seqs}-{platform.node()}.json"
    return settings.data_dir / "profiles" / name


def _hash_of(folders: Sequence[Path]) -> str:
    """Tells checkpoints apart by their files' names and sizes and the ends of their bytes."""
    digest = hashlib.sha256()
    for path in sorted(file for folder in folders for file in folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLED_BYTES))
            file.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:16]
