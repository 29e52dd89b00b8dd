"""Measures an engine on this machine: step and prefill times, draft acceptance, a profile of them.

Theory of operation: steps are timed over a grid of rows, draft lengths and context on the idle
engine; acceptance per position is counted while real prompts are decoded. That decode is also a
check: a model of it in the fitted profile (the replay engine's timeline, fed with the very same
branches) says how long it should have taken, and where it took longer (admission, sampling and
bookkeeping between steps) all times are scaled by the ratio. The profile says so in its method.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Protocol

from scheduler.core.fit import PrefillMeasurement, StepMeasurement, fit_latency
from scheduler.core.latency import LatencyProfile
from worker.engines.base import BranchFinished, BranchRequest, Engine, FinishReason, Sampling
from worker.engines.replay.timeline import Row, Timeline

GENERIC_PROMPTS = (
    "Question: Tom has 12 apples and buys 7 more. How many apples has Tom now?\nAnswer:",
    "Question: What is the sum of the first ten positive integers?\nAnswer:",
    "Question: A train travels 60 miles in 45 minutes. What is its speed in mph?\nAnswer:",
    "Question: If 3x + 5 = 20, what is x?\nAnswer:",
)
"""Stand-ins when nobody names prompts; acceptance depends on the task, so name some."""


class MeasurableEngine(Engine, Protocol):
    """An engine that can time itself while it is idle."""

    def measure_step(
        self, *, rows: int, num_speculative_tokens: int, context_tokens: int, repeats: int
    ) -> tuple[float, ...]:
        """Seconds of each of `repeats` steps; context is the total over rows."""

    def measure_prefill(self, *, prompt_tokens: int, repeats: int) -> tuple[float, ...]:
        """Seconds of each of `repeats` prefills of one prompt."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure.

    Attributes:
        rows: Rows to time, cut at what the engine takes.
        draft_lengths: Draft lengths to time, those that the engine serves.
        contexts: Context per row in tokens.
        repeats: Steps timed per point; their median counts.
        num_branches: Branches decoded for acceptance.
        budget_s: No new point is begun after this long; the grid is visited in an order that
            covers it early.
    """

    rows: tuple[int, ...]
    draft_lengths: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    repeats: int
    num_branches: int
    budget_s: float


QUICK = Effort((1, 4, 16, 64), (0, 1, 3, 8), (96, 320), (32, 128, 384), 5, 24, 6.0)
"""At the start of a worker that has no profile: under 15 s on two slow cores."""

FULL = Effort(
    (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256),
    (0, 1, 2, 3, 4, 6, 8),
    (64, 256, 768),
    (16, 64, 128, 256, 512, 1024),
    20,
    128,
    600.0,
)
"""`slackline calibrate`."""


def calibrate(
    engine: MeasurableEngine, prompts: Sequence[str], effort: Effort, *, device: str
) -> LatencyProfile:
    """Measure an idle engine and fit its profile.

    Args:
        prompts: Real prompts of the task, to count accepted drafts on.
        device: What was measured, in words.

    Raises:
        RuntimeError: The engine serves branches, or failed to decode the prompts.
    """
    started_s = time.monotonic()
    steps = _measure_steps(engine, effort, started_s + effort.budget_s)
    prefills = [
        PrefillMeasurement(
            tokens, statistics.median(engine.measure_prefill(prompt_tokens=tokens, repeats=3))
        )
        for tokens in effort.prompts
        if tokens < engine.spec.max_model_len
    ]
    decoded, wall_s = _decode(engine, prompts or GENERIC_PROMPTS, effort.num_branches)
    spec = engine.spec
    profile = fit_latency(
        steps,
        engine=spec.engine,
        model=spec.model,
        device=device,
        method="",
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        prefills=prefills,
        acceptance=_acceptance(decoded),
    )
    ratio = wall_s / _modeled_s(profile, spec.max_num_seqs, decoded)
    method = (
        f"fit to {len(steps)} measured points (median of {effort.repeats} steps each) and"
        f" {len(prefills)} prefills, acceptance counted over {len(decoded)} decoded branches;"
        f" that decode took {ratio:.2f} times the modeled time"
    )
    if ratio > 1.0:
        return replace(scaled(profile, ratio), method=f"{method}, and all times are scaled by it")
    return replace(profile, method=method)


def scaled(profile: LatencyProfile, ratio: float) -> LatencyProfile:
    """The profile with all its times multiplied."""
    return replace(
        profile,
        base_s=profile.base_s * ratio,
        token_slopes_s=tuple(slope * ratio for slope in profile.token_slopes_s),
        context_s=profile.context_s * ratio,
        draft_base_s=profile.draft_base_s * ratio,
        draft_row_s=profile.draft_row_s * ratio,
        prefill_base_s=profile.prefill_base_s * ratio,
        prefill_token_s=profile.prefill_token_s * ratio,
    )


def _measure_steps(
    engine: MeasurableEngine, effort: Effort, give_up_at_s: float
) -> list[StepMeasurement]:
    spec = engine.spec
    rows = sorted({min(count, spec.max_num_seqs) for count in effort.rows})
    lengths = [k for k in effort.draft_lengths if k in spec.draft_lengths]
    contexts = [tokens for tokens in effort.contexts if tokens < spec.max_model_len]
    grid = list(itertools.product(rows, lengths, contexts))
    # A stride that shares no factor with the size visits every point once, far ones first.
    stride = next(s for s in range(len(grid) * 5 // 8 + 1, 0, -1) if _coprime(s, len(grid)))
    steps: list[StepMeasurement] = []
    for i in range(len(grid)):
        count, length, context = grid[i * stride % len(grid)]
        if len(steps) >= 12 and time.monotonic() > give_up_at_s:
            break
        times = engine.measure_step(
            rows=count,
            num_speculative_tokens=length,
            context_tokens=context * count,
            repeats=effort.repeats,
        )
        steps.append(StepMeasurement(count, length, context * count, statistics.median(times)))
    return steps


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


def _decode(
    engine: Engine, prompts: Sequence[str], num_branches: int
) -> tuple[list[tuple[BranchRequest, BranchFinished]], float]:
    """Decode branches of the prompts with the longest draft; returns them and the seconds.

    They are in the order of submission, in which the model of them takes them too.
    """
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    longest = max(engine.spec.draft_lengths)
    requests = {
        f"calibration:{i}": BranchRequest(
            branch_id=f"calibration:{i}",
            prompt=prompts[i % len(prompts)],
            branch_index=i // len(prompts),
            num_speculative_tokens=longest,
            max_tokens=min(256, engine.spec.max_model_len // 2),
            sampling=Sampling(seed=i),
            priority=0,
            deadline_at=datetime.now(UTC) + timedelta(minutes=10),
        )
        for i in range(num_branches)
    }
    started_s = time.perf_counter()
    engine.submit(list(requests.values()), events)
    finished = [events.get(timeout=600) for _ in requests]
    wall_s = time.perf_counter() - started_s
    if failed := [event.error for event in finished if event.finish_reason is FinishReason.ERROR]:
        raise RuntimeError(f"calibration could not decode its prompts: {failed[0]}")
    by_id = {event.branch_id: event for event in finished}
    return [(request, by_id[branch_id]) for branch_id, request in requests.items()], wall_s


def _acceptance(decoded: Sequence[tuple[BranchRequest, BranchFinished]]) -> tuple[float, ...]:
    """Conditional acceptance per position: accepted there over accepted one position before."""
    counts = [event.metrics for _, event in decoded]
    length = max((len(m.accepted_by_position) for m in counts), default=0)
    accepted = [
        sum(m.accepted_by_position[j] for m in counts if len(m.accepted_by_position) > j)
        for j in range(length)
    ]
    drafted = sum(m.drafted_by_position[0] for m in counts if m.drafted_by_position)
    before = [drafted, *accepted]
    return tuple(
        min(1.0, now / earlier) if earlier else 0.0
        for earlier, now in zip(before, accepted, strict=False)
    )


def _modeled_s(
    profile: LatencyProfile,
    max_num_seqs: int,
    decoded: Sequence[tuple[BranchRequest, BranchFinished]],
) -> float:
    """Seconds that the same branches take by the profile."""
    timeline = Timeline(profile, max_num_seqs=max_num_seqs, kv_capacity_tokens=10**12)
    timeline.advance(0.0)
    for request, event in decoded:
        tokens = max(1, event.metrics.completion_tokens)
        timeline.add(Row(request, event.metrics.prompt_tokens, tokens, "", 0.0))
    return max(row.finished_at_s for row in timeline.advance(1e9))
