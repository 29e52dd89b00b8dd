"""What vLLM cannot do here, in words that say what to change."""

from dataclasses import dataclass

from worker.engines.base import BranchRequest

_MEMORY_HINT = (
    "If memory ran out, set SLACKLINE_VLLM__MAX_MODEL_LEN, SLACKLINE_MAX_NUM_SEQS,"
    " SLACKLINE_VLLM__KV_CACHE_BYTES or SLACKLINE_VLLM__GPU_MEMORY_UTILIZATION lower, or share the"
    " model between GPUs with SLACKLINE_VLLM__TENSOR_PARALLEL_SIZE"
)


class VllmStartError(RuntimeError):
    """vLLM did not start; the message has its reason and what to set."""

    def __init__(self, reason: str) -> None:
        hint = f". {_MEMORY_HINT}" if "memory" in reason.lower() else ""
        super().__init__(f"vLLM did not start: {reason.rstrip('.')}{hint}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What branches may not ask of this vLLM.

    Attributes:
        can_budget: vLLM knows how the model ends its thinking, by `reasoning_parser` or
            `reasoning_config` among its arguments.
        samples_drafts_exactly: Drafts leave the target's distribution as it is. On a CPU they do
            with the repair of `patches.py` only.
        takes_seeds: vLLM for CPU crashes where the prefill of a seeded branch is cut into chunks.
    """

    can_budget: bool
    samples_drafts_exactly: bool
    takes_seeds: bool

    def refusal(self, request: BranchRequest) -> str | None:
        """Why a branch cannot run and what to change, or None when it can."""
        sampling = request.sampling
        if (
            request.num_speculative_tokens
            and sampling.temperature > 0
            and not self.samples_drafts_exactly
        ):
            return (
                "this version of vLLM is not known to sample drafts exactly on a CPU; use version"
                " 0.32.0, temperature 0 or no drafts"
            )
        if sampling.seed is not None and not self.takes_seeds:
            return (
                "vLLM for CPU takes seeds only with SLACKLINE_VLLM__ENGINE_ARGS="
                """'{"enable_chunked_prefill": false}'; leave the seed out"""
            )
        return None
