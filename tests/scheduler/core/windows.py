"""Windows of an engine that follows a profile, for tests and benchmarks of the refresh."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from scheduler.core.latency import LatencyProfile
from scheduler.core.refresh import WINDOW_STEPS, EngineTotals, Refresh
from tests.scheduler.core.worlds import LATENCY

COUNTED = replace(LATENCY, acceptance_tries=(400.0, 300.0, 200.0, 100.0), residual_sigma=0.05)
BRANCH_STEPS = 200
"""Steps of a branch in these tests."""


def window(
    rng: np.random.Generator,
    *,
    truth: LatencyProfile = COUNTED,
    rows: int = 32,
    draft: int = 3,
    noise: float = 0.0,
) -> EngineTotals:
    """What an engine that follows `truth` does over a window."""
    steps, context = WINDOW_STEPS, 600.0 * rows
    drafts = steps * rows
    survivors, accepted = drafts, []
    for probability in truth.acceptance[:draft]:
        survivors = int(rng.binomial(survivors, probability))
        accepted.append(survivors)
    quiet = EngineTotals(
        steps=steps,
        rows=steps * rows,
        draft_tokens=steps * rows * draft,
        context_tokens=steps * context,
        prefills=2,
        prefill_tokens=200,
        branches=rows * steps // BRANCH_STEPS,
        completion_tokens=rows * steps * 2,
        drafted=(drafts,) * draft,
        accepted=tuple(accepted),
    )
    busy_s = quiet.predicted_s(truth) * float(np.exp(noise * rng.standard_normal()))
    return replace(quiet, busy_s=busy_s)


def run(refresh: Refresh, windows: Iterable[EngineTotals]) -> tuple[Refresh, list[int]]:
    """See the windows and publish when due; returns at which windows that was."""
    published = []
    for number, seen in enumerate(windows, start=1):
        refresh = refresh.seen(seen)
        if refresh.is_due():
            published.append(number)
            refresh = refresh.told(refresh.profile("2026-01-02"))
    return refresh, published
