"""Times real steps and prefills of an idle vLLM on made-up prompts, for calibration.

Theory of operation: rows with prompts of the wanted lengths decode together, and the time between
the outputs of two full steps in a row is the time of a step, all that lies between steps included.
Prompts of a row are prefixes of one another, so that most of them come from the prefix cache.
Prefills are timed several at once: vLLM gives them one step together, or one with rows that decode,
so that what a step costs anyway is not a prompt's own.
"""

import asyncio
import itertools
from collections.abc import Sequence

from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from worker.engines.vllm.recorder import Recorder, TimedStep
from worker.engines.vllm.scheduler import DRAFT_LENGTH

_WARM_UP = 2
_TOGETHER = 8
"""Prompts prefilled at once."""
_POLL_S = 0.002
_names = itertools.count()


class TooLongError(ValueError):
    """The steps do not fit the model's context."""


async def time_steps(
    llm: AsyncLLM,
    recorder: Recorder,
    num_rows: int,
    num_speculative_tokens: int,
    tokens_per_row: int,
    max_model_len: int,
    repeats: int,
) -> tuple[float, ...]:
    """Returns the seconds between full steps, the contexts being those asked for on average.

    Raises:
        TooLongError: The context leaves no room for so many steps.
    """
    room = (_WARM_UP + repeats + 1) * (num_speculative_tokens + 1)
    longest = max_model_len - room
    middle = tokens_per_row - (_WARM_UP + repeats) // 2
    if not 1 <= middle <= longest:
        raise TooLongError(f"{tokens_per_row} tokens and {room} to decode exceed {max_model_len}")
    # As in the middle of a long run: evenly spread, the longest with three times the shortest.
    spread = min(0.5, longest / middle - 1.0) if num_rows > 1 else 0.0
    lengths = [
        max(1, round(middle * (1.0 + spread - 2.0 * spread * row / max(1, num_rows - 1))))
        for row in range(num_rows)
    ]
    timed: list[TimedStep] = []
    recorder.timed = timed
    params = _params(max_model_len, num_speculative_tokens)
    collectors = [
        await llm.add_request(
            f"timing:{next(_names)}",
            tokens_input(_prompt(row, length, llm)),
            params.clone(),
        )
        for row, length in enumerate(lengths)
    ]
    try:
        ends = [asyncio.ensure_future(collector.get()) for collector in collectors]
        while len(seconds := _between_full(timed, num_rows)) < _WARM_UP + repeats:
            if any(end.done() for end in ends):
                raise TooLongError("a branch ended before enough steps were timed")
            await asyncio.sleep(_POLL_S)
        return seconds[_WARM_UP : _WARM_UP + repeats]
    finally:
        recorder.timed = None
        ids = [collector.request_id for collector in collectors]
        await llm.engine_core.abort_requests_async(ids)
        await asyncio.gather(*ends)


async def time_prefills(
    llm: AsyncLLM, num_speculative_tokens: int, prompt_tokens: int, repeats: int
) -> tuple[float, ...]:
    """Returns the seconds per prompt of prefills by target and draft."""
    clock = asyncio.get_running_loop()
    seconds = []
    for _ in range(1 + repeats):
        names = [next(_names) for _ in range(_TOGETHER)]
        # No prompt has the beginning of an earlier one.
        prompts = [tokens_input(_prompt(10_000 + name, prompt_tokens, llm)) for name in names]
        started_s = clock.time()
        collectors = [
            await llm.add_request(f"timing:{name}", prompt, _params(1, num_speculative_tokens))
            for name, prompt in zip(names, prompts, strict=True)
        ]
        for collector in collectors:
            await collector.get()
        seconds.append((clock.time() - started_s) / _TOGETHER)
    return tuple(seconds[1:])


def _between_full(timed: Sequence[TimedStep], num_rows: int) -> tuple[float, ...]:
    """Seconds of the steps in which all rows decoded, as did those before them."""
    return tuple(
        step.seconds
        for before, step in itertools.pairwise(timed)
        if before.rows == step.rows == num_rows and not step.prefilled_tokens and step.seconds
    )


def _params(max_tokens: int, num_speculative_tokens: int) -> SamplingParams:
    return SamplingParams(
        temperature=0.0,
        max_tokens=max_tokens,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args={DRAFT_LENGTH: num_speculative_tokens},
    )


def _prompt(stream: int, length: int, llm: AsyncLLM) -> list[int]:
    """The beginning of an endless prompt, another one for each stream."""
    vocab_size = llm.model_config.get_vocab_size()
    # A prime step spreads ids over the vocabulary; the first ones tell streams apart.
    head = [stream // vocab_size % vocab_size, stream % vocab_size]
    return (head + [(stream + 7919 * i) % vocab_size for i in range(length)])[:length]
