"""What does Slackline cost vLLM?

Question: tokens per second of a job that goes through API, scheduler, Celery, Postgres and the vLLM
engine with a draft length per branch, against those of vLLM's own `LLM.generate` with the same
prompts, one branch for each, cap and one fixed draft length.

Regimes: the demo model on a CPU, one worker, all on this machine, so that the service's own
processes take their share of the same cores. Both run vLLM with the same arguments, except that the
plain one has vLLM's own scheduler, its default statistics, and one draft length, that of the job's
plan. On a CPU vLLM gives the model a process of its own, and Slackline does not; so there are two
plain ones, `plain` as the worker has it, and `default` as vLLM would. Rounds alternate; the plain
engines stay loaded in processes of their own. A job's time runs from its submission to its last
committed answer.

Falsified when: the ratio of medians is below 0.95, to the faster one of the two.

    python -m tests.benchmarks.overhead_vllm [--problems N] [--rounds N]
"""

import functools
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.util import Finalize
from typing import Any

from api.client.shapes import Plan
from tests.benchmarks.served import DEMO_MODEL, TEMPERATURE, compare_in_turn

MAX_NUM_SEQS = 64
"""As of a worker."""

OURS = {
    "scheduling_policy",
    "per_request_spec_decode_metrics",
    "enable_logging_iteration_details",
    "disable_log_stats",
    "shutdown_timeout",
}
"""Arguments that the plain engine does without. The repair of sampling on a CPU stays."""


def main() -> None:
    """Measures with plain vLLMs that stay loaded beside the worker's."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as plain, ProcessPoolExecutor(1, spawn) as default:

        def decode_plain(prompts: Sequence[str], plan: Plan) -> tuple[int, float]:
            return plain.submit(generate, prompts, plan, in_core=True).result()

        def decode_default(prompts: Sequence[str], plan: Plan) -> tuple[int, float]:
            return default.submit(generate, prompts, plan, in_core=False).result()

        compare_in_turn("vllm", {"plain": decode_plain, "default": decode_default})


def generate(prompts: Sequence[str], plan: Plan, *, in_core: bool) -> tuple[int, float]:
    """Tokens and seconds of `LLM.generate`, loading not counted; runs in a plain process."""
    from vllm import SamplingParams

    llm = plain_llm(plan["num_speculative_tokens"], in_core)
    sampling = SamplingParams(temperature=TEMPERATURE, max_tokens=plan["max_tokens"])
    started_at_s = time.perf_counter()
    outputs = llm.generate(list(prompts), sampling, use_tqdm=False)
    elapsed_s = time.perf_counter() - started_at_s
    return sum(len(output.outputs[0].token_ids) for output in outputs), elapsed_s


@functools.cache
def plain_llm(num_speculative_tokens: int, in_core: bool) -> Any:
    """A plain vLLM with one fixed draft length, its model in the core's process or in another."""
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    from worker.engines.vllm.arguments import core_environment, engine_arguments
    from worker.engines.vllm.settings import VllmSettings

    arguments = engine_arguments(
        DEMO_MODEL / "target",
        DEMO_MODEL / "draft",
        VllmSettings(draft_lengths=(num_speculative_tokens,)),
        max_num_seqs=MAX_NUM_SEQS,
    )
    if arguments["speculative_config"]:
        # Our scheduler subclass does not follow the table; vLLM's own would.
        del arguments["speculative_config"]["num_speculative_tokens_per_batch_size"]
    arguments = {name: value for name, value in arguments.items() if name not in OURS}
    if in_core:
        arguments["distributed_executor_backend"] = UniProcExecutor
        with core_environment(EngineArgs(**arguments).create_engine_config()):
            llm = LLM(**arguments)
    else:
        llm = LLM(**arguments)
    # Otherwise this process waits for vLLM's own at its end, and they for it.
    Finalize(llm, llm.llm_engine.engine_core.shutdown, exitpriority=0)
    return llm


if __name__ == "__main__":
    main()
