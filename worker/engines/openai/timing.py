"""Times steps and prefills of a server through its streams, for calibration."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.engines.base import BranchRequest, Sampling
from worker.engines.openai.endpoint import Endpoint
from worker.engines.openai.settings import EndpointSettings
from worker.engines.openai.wire import Chunk, Offer, body_of, path_of

_TEXT = (
    "Write down every step in full and do not stop early. A shop sells pens for 3 dollars and"
    " books for 14. On Monday it sold 25 pens and 9 books, on Tuesday twice as many pens and 4"
    " books less, and on Wednesday as much as on both days together. "
)
"""Repeated to prompts of the length asked for."""
_WARM_STEPS = 2
_MAX_TRIES = 5
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Clock:
    """Times one server.

    Attributes:
        offer: What the server offers, for the model and the length of its tokens.
    """

    endpoint: Endpoint
    settings: EndpointSettings
    offer: Offer

    async def steps(
        self, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int
    ) -> tuple[float, ...]:
        """Seconds of each of `repeats` steps: the time between chunks, mean over rows and window.

        The window is that in which all rows decode. A server that stops branches at their end of
        text may close it early; then further windows follow.

        Args:
            context_tokens: Of one row.

        Raises:
            RuntimeError: The server's branches end too soon to be timed.
        """
        times: list[float] = []
        width = num_speculative_tokens + 1
        max_tokens = min(
            (repeats + _WARM_STEPS + 1) * width + rows, self.offer.max_model_len - context_tokens
        )
        for _ in range(_MAX_TRIES):
            prompt = self._prompt(context_tokens)
            arrivals = await asyncio.gather(
                *(self._arrivals(prompt, num_speculative_tokens, max_tokens) for _ in range(rows))
            )
            times += step_times(arrivals)
            if len(times) >= repeats:
                return tuple(times[:repeats])
        if times:
            return tuple(itertools.islice(itertools.cycle(times), repeats))
        raise RuntimeError(
            "the server ends its branches before a step can be timed; give --latency-profile"
        )

    async def prefills(self, prompt_tokens: int, repeats: int) -> tuple[float, ...]:
        """Seconds until the first token of each of `repeats` prompts that were never sent."""
        times = []
        for _ in range(repeats):
            prompt = self._prompt(prompt_tokens)
            started_s = time.perf_counter()
            await self._arrivals(prompt, self.settings.draft_lengths[0], 1)
            times.append(time.perf_counter() - started_s)
        return tuple(times)

    async def _arrivals(
        self, prompt: str, num_speculative_tokens: int, max_tokens: int
    ) -> list[float]:
        """When each chunk with a token came."""
        arrivals, told = [], 0
        async for chunk in self._stream(prompt, num_speculative_tokens, max_tokens):
            if chunk.text or (chunk.completion_tokens or 0) > told:
                arrivals.append(time.perf_counter())
            told = chunk.completion_tokens or told
        return arrivals

    def _stream(
        self, prompt: str, num_speculative_tokens: int, max_tokens: int
    ) -> AsyncIterator[Chunk]:
        request = BranchRequest(
            branch_id="calibration",
            prompt=prompt,
            branch_index=0,
            num_speculative_tokens=num_speculative_tokens,
            max_tokens=max_tokens,
            sampling=Sampling(),
            priority=0,
            deadline_at=datetime.now(UTC) + timedelta(minutes=10),
        )
        body = body_of(request, self.settings, self.offer)
        if self.offer.vllm_fields:
            body["ignore_eos"] = True
        return self.endpoint.stream(path_of(request, self.settings), body)

    def _prompt(self, num_tokens: int) -> str:
        """A prompt of about so many tokens that begins as no other, so that no cache knows it."""
        num_chars = round(num_tokens * self.offer.chars_per_token)
        text = f"{time.time_ns() % 10**6}-{next(_numbers)} "
        text += _TEXT * (num_chars // len(_TEXT) + 1)
        return text[: max(num_chars, 1)]


def step_times(arrivals: list[list[float]]) -> list[float]:
    """Seconds of each step while all rows decode: the mean, as chunks often arrive in bunches."""
    begin = max(row[0] for row in arrivals if row) if any(arrivals) else 0.0
    end = min(row[-1] if row else 0.0 for row in arrivals)
    inside = [[at for at in row if begin <= at <= end][_WARM_STEPS:] for row in arrivals]
    if min(map(len, inside)) < 2:
        return []
    num_steps = min(map(len, inside)) - 1
    return [statistics.fmean((row[-1] - row[0]) / (len(row) - 1) for row in inside)] * num_steps
