"""Makes the requests of a problem's branches: its first ones, and those that close a branch.

Theory of operation: a branch that the deadline would cut off may be made to say what it thinks by
then. It is aborted, its text so far with a closing text such as `Final answer: \\boxed{` is given
back to the engine as the beginning of a completion, and a few tokens more are decoded. Both parts
together are one branch, which counts as cut by its cap.
"""

import hashlib
from dataclasses import replace
from itertools import zip_longest

from db.claims import ClaimedBatch, ClaimedProblem
from scheduler.core.branch_options import BranchOptions
from worker.engines.base import BranchFinished, BranchRequest, FinishReason, Sampling

CLOSING_TOKENS = 48
"""Room for a final answer; of the answers of MATH-500 99% are shorter."""
_CLOSING_OVERHEAD_S = 0.5
"""An abort, a prefill that is mostly cached, and the votes."""
_UNKNOWN_TPOT_S = 0.05
_CLOSING_SHARE = 0.3


def branch_request(batch: ClaimedBatch, problem: ClaimedProblem, index: int) -> BranchRequest:
    """The request of a branch."""
    options = batch.options
    return BranchRequest(
        # With the batch: a branch of a rescued batch may still be ending in this engine.
        branch_id=f"{batch.id}:{problem.id}:{index}",
        prompt=problem.prompt,
        branch_index=index,
        num_speculative_tokens=batch.plan.num_speculative_tokens,
        max_tokens=batch.plan.max_tokens,
        sampling=Sampling(
            temperature=batch.temperature,
            top_p=batch.top_p,
            seed=_seed(options, problem.key, index),
            top_k=options.top_k,
            stop=options.stop,
            thinking_token_budget=options.thinking_token_budget,
        ),
        priority=int(batch.deadline_at.timestamp() * 1000),
        deadline_at=batch.deadline_at,
        prompt_format=options.prompt_format,
        system_prompt=options.system_prompt,
        turns=problem.turns,
    )


def closing_request(request: BranchRequest, begun: BranchFinished, text: str) -> BranchRequest:
    """The request that makes an aborted branch say its answer."""
    return replace(
        request,
        branch_id=f"{request.branch_id}:closing",
        max_tokens=CLOSING_TOKENS,
        # What thinks is told to stop.
        sampling=replace(request.sampling, thinking_token_budget=None),
        partial=begun.text + text,
    )


def closing_time_s(tpot_s: float | None, total_s: float) -> float:
    """How long before the votes are taken branches are closed.

    Args:
        tpot_s: Seconds per token of the batch's branches, once known.
        total_s: What the batch had in all; most of it is for the branches themselves.
    """
    needed_s = _CLOSING_OVERHEAD_S + CLOSING_TOKENS * (tpot_s or _UNKNOWN_TPOT_S)
    return min(needed_s, _CLOSING_SHARE * total_s)


def joined(begun: BranchFinished, closing: BranchFinished, text: str) -> BranchFinished:
    """An aborted branch and its closing as one; the first alone where the closing failed."""
    if closing.finish_reason is FinishReason.ERROR or closing.metrics.started_at is None:
        return begun
    first, last = begun.metrics, closing.metrics
    metrics = replace(
        first,
        first_token_at=first.first_token_at or last.first_token_at,
        finished_at=last.finished_at,
        completion_tokens=first.completion_tokens + last.completion_tokens,
        num_steps=first.num_steps + last.num_steps,
        drafted_by_position=_added(first.drafted_by_position, last.drafted_by_position),
        accepted_by_position=_added(first.accepted_by_position, last.accepted_by_position),
        num_rows=last.num_rows,
    )
    return replace(begun, text=begun.text + text + closing.text, metrics=metrics)


def _seed(options: BranchOptions, problem_key: str, index: int) -> int | None:
    """A seed for each branch, the same in every job with the same seed and problem id."""
    if options.seed is None:
        return None
    name = f"{options.seed}:{index}:{problem_key}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 1


def _added(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(left, right, fillvalue=0))
