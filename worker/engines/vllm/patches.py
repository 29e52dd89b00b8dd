"""Repairs two faults of vLLM 0.32.0 on a CPU where a draft is configured.

Theory of operation: with drafts, sampled tokens were not the target's. Where temperature, top-k
and top-p of the branches are spread over their draft positions, the C++ stand-in for a Triton
kernel fills a copy that nobody reads (`vllm.utils.cpu_triton_utils`, vLLM issue 55005), so the
positions are sampled with whatever was in memory. Greedy decoding and GPUs are not affected. The
replacement is bound to the exact version: for any other one, whether sampling is exact is not
known, and the engine refuses it.

The other fault ends the engine: a branch with top-k in a step without any draft makes vLLM take
the maximum of no values.

vLLM imports this module in each worker process of its engine to find `WorkerExtension`, and the
import puts the replacements in place.
"""

import torch
import vllm
from torch import Tensor
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler

REPAIRED_VERSION = "0.32.0"


def expand_batch_to_tokens(
    x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> Tensor:
    """Repeats each branch's value for each of its draft positions.

    Args:
        x: (num_branches,) values.
        cu_num_tokens: (num_branches,) positions of the branches, summed up to each.
        num_tokens: Positions in all.
        replace_from: Value to be replaced.
        replace_to: Its replacement.
    """
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    repeats = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1)).long()
    return torch.repeat_interleave(values, repeats, output_size=num_tokens)


_apply_top_k_top_p = rejection_sampler.apply_top_k_top_p


def apply_top_k_top_p(logits: Tensor, k: Tensor | None, p: Tensor | None) -> Tensor:
    """Masks what `top_k` and `top_p` leave out; a step without drafts has no positions.

    Args:
        logits: (num_tokens, vocab_size).
        k: (num_tokens,), likewise `p`.
    """
    masked: Tensor = _apply_top_k_top_p(logits, k, p) if len(logits) else logits
    return masked


def repair() -> None:
    """Put the replacements in place where they are needed."""
    if current_platform.is_cpu() and vllm.__version__.split("+")[0] == REPAIRED_VERSION:
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
        rejection_sampler.apply_top_k_top_p = apply_top_k_top_p


class WorkerExtension:
    """Methods that vLLM's workers get."""

    def samples_drafts_exactly(self) -> bool:
        """Whether drafts leave the target's distribution as it is, at any temperature."""
        return (
            not current_platform.is_cpu()
            or rejection_sampler.expand_batch_to_tokens is expand_batch_to_tokens
        )


repair()
