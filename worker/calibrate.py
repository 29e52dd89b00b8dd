"""Measures an engine on this machine: step and prefill times, draft acceptance, a profile of them.

Theory of operation: steps are timed over a grid of rows, draft lengths and context on the idle
engine; acceptance per position is counted while real prompts are decoded. Those decodes are also a
check: the fitted profile says how long what the engine did should have taken, and all times are
scaled by what it really took (admission, sampling and bookkeeping between steps are in that). They
fill it, up to 64 rows: full steps take relatively longer, and that is when deadlines are missed.
They are repeated, and how far they lie apart is the spread of runs that the profile states. Where
they contradict the steps altogether, all is measured anew. The same check, once, tells whether a
profile kept from an earlier start is still true.
"""

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Protocol

import structlog

from scheduler.core.fit import PrefillMeasurement, StepMeasurement, fit_latency, with_runs
from scheduler.core.fit_acceptance import DraftCounts, measure_acceptance
from scheduler.core.latency import LatencyProfile
from scheduler.core.spread import Z95
from worker.engines.base import (
    BranchFinished,
    BranchMetrics,
    BranchRequest,
    Engine,
    FinishReason,
    Sampling,
)

log = structlog.get_logger(__name__)

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
        draft_lengths: Draft lengths to time, or the nearest ones that the engine serves.
        contexts: Context per row in tokens.
        repeats: Steps timed per point; their median counts.
        num_branches: Branches decoded in each run, cut at what the engine takes.
        num_runs: Runs of decoding.
        budget_s: No new point is begun after this long; the grid is visited in an order that
            covers it early.
    """

    rows: tuple[int, ...]
    draft_lengths: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    repeats: int
    num_branches: int
    num_runs: int
    budget_s: float


QUICK = Effort((1, 4, 16, 64), (0, 1, 3, 8), (96, 320), (32, 128, 384), 5, 64, 3, 6.0)
"""At the start of a worker that has no profile: under 20 s on two slow cores, where it is not
contradicted."""

FULL = Effort(
    (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256),
    (0, 1, 2, 3, 4, 6, 8),
    (64, 256, 768),
    (16, 64, 128, 256, 512, 1024),
    20,
    64,
    8,
    600.0,
)
"""`slackline calibrate`."""


CONTRADICTION = 4.0
"""Decoding takes 0.9 to 1.7 times what steps alone tell on the engines measured so far."""
MAX_TRIES = 3
"""Of a machine that is always busy the third measurement is no better than the next."""


def calibrate(
    engine: MeasurableEngine, prompts: Sequence[str], effort: Effort, *, device: str
) -> LatencyProfile:
    """Measure an idle engine and fit its profile.

    What decoding contradicts by more than a factor of `CONTRADICTION` is measured anew: something
    held up the steps that were timed, or whoever looked at the clock. After `MAX_TRIES` the
    profile counts that is contradicted least.

    Args:
        prompts: Real prompts of the task, to count accepted drafts on.
        device: What was measured, in words.

    Raises:
        RuntimeError: The engine serves branches, or failed to decode the prompts.
    """
    tries: list[tuple[float, LatencyProfile]] = []
    while True:
        tries.append(_calibrated(engine, prompts, effort, device))
        ratio, profile = min(tries, key=lambda one: abs(math.log(one[0])))
        if max(ratio, 1.0 / ratio) <= CONTRADICTION:
            return profile
        log.warning("calibration.contradicted", ratio=tries[-1][0], tries=len(tries))
        if len(tries) == MAX_TRIES:
            return profile


def _calibrated(
    engine: MeasurableEngine, prompts: Sequence[str], effort: Effort, device: str
) -> tuple[float, LatencyProfile]:
    """What decoding took over what the steps alone tell, and the profile, scaled by it."""
    started_s = time.monotonic()
    steps = _measure_steps(engine, effort, started_s + effort.budget_s)
    prefills = [
        PrefillMeasurement(
            tokens, statistics.median(engine.measure_prefill(prompt_tokens=tokens, repeats=3))
        )
        for tokens in effort.prompts
        if tokens < engine.spec.max_model_len
    ]
    fitted = fit_latency(
        steps,
        engine=engine.spec.engine,
        model=engine.spec.model,
        device=device,
        method="",
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        prefills=prefills,
    )
    runs, decoded = [], []
    for run in range(effort.num_runs):
        error, branches = _decode(engine, prompts, effort.num_branches, fitted, run)
        runs.append(error)
        decoded += branches
    counts = [DraftCounts(m.drafted_by_position, m.accepted_by_position) for m in decoded]
    accepted = measure_acceptance(counts)
    # One run that something else on the machine held up widens the spread and scales nothing.
    ratio = math.exp(statistics.median(runs))
    profile = replace(
        with_runs(fitted, runs).scaled(ratio),
        acceptance=accepted.acceptance,
        acceptance_tries=accepted.tries,
        method=(
            f"fit to {len(steps)} measured points (median of {effort.repeats} steps each) and"
            f" {len(prefills)} prefills, acceptance counted over {len(decoded)} decoded branches;"
            f" {len(runs)} runs of decoding them took {ratio:.2f} times the modeled time, and all"
            " times are scaled by it"
        ),
    )
    return ratio, profile


def is_still_true(profile: LatencyProfile, engine: Engine, prompts: Sequence[str]) -> bool:
    """Whether an idle engine decodes as fast as a profile measured earlier says."""
    error, _ = _decode(engine, prompts, QUICK.num_branches, profile, 0)
    return abs(error) <= Z95 * profile.residual_sigma


def _measure_steps(
    engine: MeasurableEngine, effort: Effort, give_up_at_s: float
) -> list[StepMeasurement]:
    spec = engine.spec
    rows = sorted({min(count, spec.max_num_seqs) for count in effort.rows})
    # Its longest too, whichever it is: a plan may choose it, and the fit reaches poorly beyond.
    asked = (*effort.draft_lengths, max(spec.draft_lengths))
    lengths = sorted({_nearest(k, spec.draft_lengths) for k in asked})
    contexts = [tokens for tokens in effort.contexts if tokens < spec.max_model_len]
    grid = [
        (count, length, context)
        for count, length, context in itertools.product(rows, lengths, contexts)
        if count * context <= spec.kv_capacity_tokens
    ]
    # A stride that shares no factor with the size visits every point once, far ones first.
    stride = next(s for s in range(len(grid) * 5 // 8 + 1, 0, -1) if math.gcd(s, len(grid)) == 1)
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


def _nearest(wanted: int, served: Sequence[int]) -> int:
    return min(served, key=lambda length: abs(length - wanted))


def _decode(
    engine: Engine, prompts: Sequence[str], num_branches: int, profile: LatencyProfile, run: int
) -> tuple[float, list[BranchMetrics]]:
    """Decode branches with the longest draft; returns log(measured / modeled time) and traces."""
    events: SimpleQueue[BranchFinished] = SimpleQueue()
    chosen = prompts or GENERIC_PROMPTS
    requests = [
        BranchRequest(
            branch_id=f"calibration:{run}:{i}",
            prompt=chosen[i % len(chosen)],
            branch_index=i // len(chosen),
            num_speculative_tokens=max(engine.spec.draft_lengths),
            max_tokens=min(256, engine.spec.max_model_len // 2),
            sampling=Sampling(),
            priority=0,
            deadline_at=datetime.now(UTC) + timedelta(minutes=10),
        )
        for i in range(min(num_branches, engine.spec.max_num_seqs))
    ]
    before = engine.totals()
    engine.submit(requests, events)
    finished = [events.get(timeout=600) for _ in requests]
    if failed := [event.error for event in finished if event.finish_reason is FinishReason.ERROR]:
        raise RuntimeError(f"calibration could not decode its prompts: {failed[0]}")
    window = engine.totals().since(before)
    if not window.steps:
        raise RuntimeError("calibration decoded branches of one token; name real prompts")
    return math.log(window.busy_s / window.predicted_s(profile)), [e.metrics for e in finished]
