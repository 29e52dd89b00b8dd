"""Checks at its start that vLLM drafts for each branch what the branch asks for, and decodes alike.

Theory of operation: the draft length of a branch rests on hooks that vLLM may change, and a wrong
match of scheduler and scheduling would turn speculation off without a word. So one greedy branch
of each draft length is decoded alone, which also warms that length up, and then all together. Each
must have drafted as asked. In float32 all must decode the same tokens; in lower precision, passes
of other widths round otherwise, and a difference is only told.
"""

import asyncio
from collections.abc import Sequence

import structlog
from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from worker.engines.vllm.scheduler import DRAFT_LENGTH

log = structlog.get_logger(__name__)

_NUM_TOKENS = 16
_PROMPT = (3, 4, 5, 6) * 8
"""It repeats itself, so that n-grams match too."""


class SelfTestError(RuntimeError):
    """vLLM does not do what the engine relies on."""


async def run_self_test(llm: AsyncLLM, draft_lengths: Sequence[int]) -> None:
    """Decode with each draft length.

    Raises:
        SelfTestError: Drafts or tokens are not as they must be.
    """
    alone = [await _decode(llm, length, "alone") for length in draft_lengths]
    together = await asyncio.gather(*(_decode(llm, length, "together") for length in draft_lengths))
    for outputs in (alone, together):
        for length, output in zip(draft_lengths, outputs, strict=True):
            _check_drafts(length, output)
    expected = list(alone[0].token_ids)
    if all(list(output.token_ids) == expected for output in (*alone, *together)):
        return
    tokens = [list(output.token_ids) for output in (*alone, *together)]
    if str(llm.model_config.dtype) == "torch.float32":
        raise SelfTestError(f"greedy tokens differ between draft lengths {draft_lengths}: {tokens}")
    log.warning("engine.greedy_tokens_differ", tokens=tokens)


def _check_drafts(length: int, output: CompletionOutput) -> None:
    metrics = output.spec_decode_metrics
    drafted = max(metrics.per_step_drafted, default=0) if metrics else 0
    if drafted > length:
        raise SelfTestError(f"a branch of draft length {length} was given {drafted} draft tokens")
    if length and not drafted:
        raise SelfTestError(
            f"vLLM makes no drafts for draft length {length}; set SLACKLINE_VLLM__DRAFT_LENGTHS to"
            " [0] to serve without them"
        )


async def _decode(llm: AsyncLLM, length: int, name: str) -> CompletionOutput:
    vocab_size = llm.model_config.get_vocab_size()
    params = SamplingParams(
        temperature=0.0,
        max_tokens=_NUM_TOKENS,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args={DRAFT_LENGTH: length},
    )
    prompt = tokens_input([token % vocab_size for token in _PROMPT])
    collector = await llm.add_request(f"self-test:{name}:{length}", prompt, params)
    return (await collector.get()).outputs[0]
