"""What vLLM is told at its start: its arguments, from the worker's settings.

Theory of operation: `num_speculative_tokens` is a maximum here, and the branches name their own.
The table of draft lengths by batch size is not followed, because the scheduler subclass decides;
it is there so that CUDA graphs are captured for each draft length, and vLLM pads no first step.

On a CPU vLLM gives the model a process of its own, so that OpenMP starts with the threads that are
meant for it. Nothing is won by that: the core only waits for each step, spinning on another CPU
that the rest of the machine could use. So the model runs in the core, as on one GPU, and the core
is started with that environment.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from worker.engines.vllm.limits import VllmStartError
from worker.engines.vllm.scheduler import PerBranchAsyncScheduler, PerBranchScheduler
from worker.engines.vllm.settings import VllmSettings

SHUTDOWN_TIMEOUT_S = 15
"""A signal to the whole process group must not end vLLM before the worker gave its batches back."""

_ENVIRONMENT = {
    # A fork of a process with threads may hang.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Of vLLM's processes, unless it is set already."""

_CPU_KV_CACHE_BYTES = 1 << 30
"""By default vLLM takes nearly all memory of the machine."""

_CPU_BLOCK_SIZE = 32
"""The smallest on a CPU; prompts share their prefill up to whole blocks, of 128 by default."""

_CPU_BATCHED_TOKENS = 2048
_GPU_BATCHED_TOKENS = 8192


def is_cpu() -> bool:
    """Whether the installed vLLM is the build for CPU."""
    return bool(current_platform.is_cpu())


def admitted_ahead(max_num_seqs: int) -> int:
    """Branches that vLLM is given beyond its rows, so that a row that gets free is not idle."""
    return max_num_seqs // 16


def batch_table(draft_lengths: Sequence[int], max_num_seqs: int) -> list[list[int]]:
    """Batch sizes (first, last) with a draft length, naming every length that fits the sizes."""
    lengths = sorted(draft_lengths, reverse=True)[:max_num_seqs]
    table = [[size, size, length] for size, length in enumerate(lengths, 1)]
    table[-1][1] = max_num_seqs
    return table


def vllm_config(
    model_dir: Path, draft_dir: Path | None, settings: VllmSettings, *, max_num_seqs: int
) -> VllmConfig:
    """Resolves all that vLLM wants to know.

    Raises:
        VllmStartError: The checkpoint or a setting is not what vLLM takes.
    """
    for folder in filter(None, (model_dir, draft_dir)):
        # vLLM would look for a model of that name on the network.
        if not (folder / "config.json").is_file():
            raise VllmStartError(f"{folder} is no checkpoint, it has no config.json")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    arguments = engine_arguments(model_dir, draft_dir, settings, max_num_seqs=max_num_seqs)
    try:
        config: VllmConfig = AsyncEngineArgs(**arguments).create_engine_config()
    # Of whatever kind: vLLM, transformers and pydantic each have their own.
    except Exception as error:
        raise VllmStartError(f"{type(error).__name__}: {error}") from error
    scheduling = config.scheduler_config
    scheduling.scheduler_cls = (
        PerBranchAsyncScheduler if scheduling.async_scheduling else PerBranchScheduler
    )
    if is_cpu() and config.parallel_config.world_size == 1:
        # Asked for by its name, "uni", vLLM would take the other one.
        config.parallel_config.distributed_executor_backend = UniProcExecutor
    return config


@contextmanager
def core_environment(config: VllmConfig) -> Iterator[None]:
    """For starting vLLM's core: where the model runs in it, OpenMP's settings for the model."""
    if not is_cpu() or config.parallel_config.world_size > 1:
        yield
        return
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        yield


def engine_arguments(
    model_dir: Path, draft_dir: Path | None, settings: VllmSettings, *, max_num_seqs: int
) -> dict[str, Any]:
    """The arguments of vLLM's engine by their names."""
    speculative = _speculative(draft_dir, settings, max_num_seqs)
    arguments: dict[str, Any] = {
        "model": str(model_dir),
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": _CPU_BATCHED_TOKENS if is_cpu() else _GPU_BATCHED_TOKENS,
        "max_model_len": settings.max_model_len,
        "dtype": settings.dtype or ("float32" if is_cpu() else "auto"),
        "load_format": settings.load_format,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "enforce_eager": is_cpu(),
        "per_request_spec_decode_metrics": "detailed" if speculative else "none",
        "enable_logging_iteration_details": True,
        # The recorder takes the statistics; vLLM's own loggers would cost time in every step.
        "disable_log_stats": True,
        "worker_extension_cls": "worker.engines.vllm.patches.WorkerExtension",
        "shutdown_timeout": SHUTDOWN_TIMEOUT_S,
        "speculative_config": speculative,
    }
    if settings.kv_cache_bytes is not None or is_cpu():
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes or _CPU_KV_CACHE_BYTES
    if is_cpu():
        arguments["block_size"] = _CPU_BLOCK_SIZE
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
        arguments["tensor_parallel_size"] = settings.tensor_parallel_size
    return arguments | settings.engine_args


def _speculative(
    draft_dir: Path | None, settings: VllmSettings, max_num_seqs: int
) -> dict[str, Any] | None:
    method = settings.drafter or ("draft_model" if draft_dir else None)
    longest = max(settings.draft_lengths)
    if method is None or longest == 0:
        return None
    config: dict[str, Any] = {
        "method": method,
        "num_speculative_tokens": longest,
        "num_speculative_tokens_per_batch_size": batch_table(settings.draft_lengths, max_num_seqs),
    }
    if method == "ngram":
        # Both: where one is given, vLLM takes it for the other too.
        return config | {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
    if method == "draft_model":
        # The whole draft distribution takes part in the test, as in the torch engine.
        config["draft_sample_method"] = "probabilistic"
    return config if draft_dir is None else config | {"model": str(draft_dir)}
