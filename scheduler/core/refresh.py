"""Keeps a latency profile true to the engine that it describes, from what the engine just did.

Theory of operation: an engine keeps running totals. Their difference over some steps is a window:
how long they took, and on average how many rows, drafts and context tokens they had, from which
the profile predicts the time. The log of measured over predicted is one observation of the
engine's speed; noise of single steps averages out within a window as it does within a branch.
Windows and not branches are counted, because branches that decode together share every step.

The last windows give the speed (their median) and the spread of runs (their variance, shrunk to
the spread that was fitted); their drafts give the acceptance, shrunk to what was counted before.
The engine has *drifted* when each of the latest few lies beyond the spread that was published, on
the same side: then older windows tell of another engine and are forgotten. A profile is published
anew after a drift, and otherwise only when it differs by more than chance and by more than is worth
a new plan, so that noise changes no plan.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from scheduler.core.acceptance import UNCOUNTED_TRIES, relative_sigma
from scheduler.core.fit_acceptance import DraftCounts, MeasuredAcceptance, measure_acceptance
from scheduler.core.latency import LatencyProfile
from scheduler.core.spread import PRIOR_RUNS, PRIOR_SIGMA

WINDOW_STEPS = 50
"""Steps of a window; a drift shows in four of them, and TAPER (arXiv 2605.06914) refreshes its
coefficients over 200 steps."""
MEMORY = 16
"""Windows remembered."""
DRIFT_WINDOWS = 4
"""Windows that a drift must last."""
DRIFT_SIGMAS = 1.3
"""Spreads by which each of them must be off, on the same side: noise alone does that in one window
of 5,000."""
PRIOR_WINDOWS = 8
"""Windows that the fitted spread is worth at first; less once more than `MEMORY` were seen."""
PRIOR_TRIES = 200.0
"""Most tries that acceptance counted earlier is worth against that of now."""
WORTH = 0.02
"""Relative change of times below which a plan stays as it is."""
WORTH_SPREAD = 1.5
"""Factor of the spread of runs below which a plan stays as it is."""
OUTLIER = 0.5
"""A window this far off the others (log) counts as no more: a machine that slept was not slow."""
LIMIT = math.log(1000.0)
"""Bound of the log of a window's error, for times of nothing and forever."""


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """What an engine did since its start; sums over steps unless said otherwise.

    Attributes:
        steps: Decode steps.
        busy_s: Seconds in which it had live rows: steps, prefills and what is between them.
        rows: Live rows of each step.
        draft_tokens: Draft length of every live row of each step.
        context_tokens: Tokens in the KV caches of the live rows of each step.
        prefills: Prompts prefilled.
        prefill_tokens: Their tokens.
        branches: Branches that ended.
        completion_tokens: Their completion tokens.
        drafted: Draft tokens verified per position, of branches that ended.
        accepted: Draft tokens accepted per position, same length.
    """

    steps: float = 0.0
    busy_s: float = 0.0
    rows: float = 0.0
    draft_tokens: float = 0.0
    context_tokens: float = 0.0
    prefills: int = 0
    prefill_tokens: int = 0
    branches: int = 0
    completion_tokens: int = 0
    drafted: tuple[int, ...] = ()
    accepted: tuple[int, ...] = ()

    def since(self, earlier: "EngineTotals") -> "EngineTotals":
        """What happened after earlier totals of the same engine."""
        differences = {
            f.name: getattr(self, f.name) - getattr(earlier, f.name)
            for f in fields(self)
            if f.name not in ("drafted", "accepted")
        }
        return EngineTotals(
            **differences,
            drafted=_minus(self.drafted, earlier.drafted),
            accepted=_minus(self.accepted, earlier.accepted),
        )

    def predicted_s(self, profile: LatencyProfile) -> float:
        """Seconds that this takes by a profile, at the mean of its steps."""
        rows = self.rows / self.steps
        draft = self.draft_tokens / self.rows
        step_s = float(profile.step_time_s(rows, draft, self.context_tokens / self.steps))
        prefill_s = self.prefills * profile.prefill_base_s
        return self.steps * step_s + prefill_s + self.prefill_tokens * profile.prefill_token_s


@dataclass(frozen=True, slots=True)
class Refresh:
    """A fitted profile, what was seen of its engine since, and what the scheduler was told.

    Attributes:
        fitted: The profile to start from; never changed.
        published: The profile that the scheduler plans by.
        windows: The latest windows, the oldest first.
        errors: Log of measured over fitted time of each of them.
        num_windows: Windows seen in all.
        num_branches: Branches seen in all.
    """

    fitted: LatencyProfile
    published: LatencyProfile
    windows: tuple[EngineTotals, ...] = ()
    errors: tuple[float, ...] = ()
    num_windows: int = 0
    num_branches: int = 0

    @classmethod
    def of(cls, fitted: LatencyProfile) -> "Refresh":
        """Nothing seen yet."""
        return cls(fitted, fitted)

    def seen(self, window: EngineTotals) -> "Refresh":
        """After one more window, of at least one step."""
        predicted_s = window.predicted_s(self.fitted)
        error = math.log(max(window.busy_s, 1e-12) / predicted_s)
        error = min(max(error, -LIMIT), LIMIT)
        after = replace(
            self,
            windows=(*self.windows, window)[-MEMORY:],
            errors=(*self.errors, error)[-MEMORY:],
            num_windows=self.num_windows + 1,
            num_branches=self.num_branches + window.branches,
        )
        if not after.has_drifted:
            return after
        return replace(
            after, windows=after.windows[-DRIFT_WINDOWS:], errors=after.errors[-DRIFT_WINDOWS:]
        )

    @property
    def has_drifted(self) -> bool:
        """Whether the engine of now differs from the published profile by more than its spread."""
        if len(self.errors) < DRIFT_WINDOWS:
            return False
        gaps = np.asarray(self.errors[-DRIFT_WINDOWS:]) - self._published_error
        least = np.abs(gaps).min() if abs(np.sign(gaps).sum()) == DRIFT_WINDOWS else 0.0
        return bool(least > max(DRIFT_SIGMAS * self.published.residual_sigma, WORTH))

    @property
    def speed_ratio(self) -> float:
        """Times of now over fitted times."""
        return math.exp(float(np.median(self.errors))) if self.errors else 1.0

    def is_due(self) -> bool:
        """Whether the scheduler should be told."""
        if self.has_drifted:
            return True
        if len(self.errors) < DRIFT_WINDOWS:
            return False
        gap = abs(math.log(self.speed_ratio) - self._published_error)
        spread = self._spread()
        # Windows next to each other are alike, so that their scatter understates the error.
        if gap > max(2.0 * spread / math.sqrt(len(self.errors) / 2.0), WORTH):
            return True
        if abs(math.log(spread / max(self.published.residual_sigma, 1e-6))) > math.log(
            WORTH_SPREAD
        ):
            return True
        lengths = np.arange(len(self.fitted.acceptance) + 1)
        live = self._acceptance()
        now = replace(self.fitted, acceptance=live.acceptance).mean_acceptance_length(lengths)
        gaps = np.abs(np.log(now / self.published.mean_acceptance_length(lengths)))
        chance = 2.0 * relative_sigma(live.acceptance, live.tries, lengths)
        return bool(np.any(gaps > np.maximum(chance, WORTH)))

    def profile(self, measured_at: str) -> LatencyProfile:
        """The profile of now, which says that it was refreshed and from how much."""
        if not self.errors:
            return self.fitted
        ratio, live = self.speed_ratio, self._acceptance()
        drafted = f"{sum(w.drafted[0] for w in self.windows if w.drafted)} drafts"
        return replace(
            self.fitted.scaled(ratio),
            acceptance=live.acceptance,
            acceptance_tries=live.tries,
            residual_sigma=self._spread(),
            measured_at=measured_at,
            method=(
                f"{self.fitted.method}; measured {self.fitted.measured_at}, refreshed from"
                f" {len(self.errors)} windows of {WINDOW_STEPS} or more live steps and {drafted}"
                f" ({self.num_windows} windows and {self.num_branches} branches seen so far):"
                f" times are {ratio:.2f} of the measured"
            ),
        )

    def told(self, published: LatencyProfile) -> "Refresh":
        """After the scheduler was told."""
        return replace(self, published=published)

    @property
    def _published_error(self) -> float:
        return math.log(self.published.base_s / self.fitted.base_s)

    def _spread(self) -> float:
        """Spread of runs: that of the windows, shrunk to the fitted one."""
        errors = np.asarray(self.errors)
        middle = float(np.median(errors))
        squares = float(np.var(np.clip(errors, middle - OUTLIER, middle + OUTLIER))) * len(errors)
        # What was fitted is outlived: a start on a busy machine may have measured anything.
        weight = PRIOR_WINDOWS * min(1.0, MEMORY / self.num_windows)
        known = weight * self.fitted.residual_sigma**2 + PRIOR_RUNS * PRIOR_SIGMA**2
        return math.sqrt((known + squares) / (weight + PRIOR_RUNS + len(errors) - 1))

    def _acceptance(self) -> MeasuredAcceptance:
        """Acceptance at the start of a branch, and the tries that it is worth."""
        fitted = self.fitted
        live = measure_acceptance([DraftCounts(w.drafted, w.accepted) for w in self.windows])
        branches = sum(window.branches for window in self.windows)
        length = sum(window.completion_tokens for window in self.windows) / max(branches, 1)
        kept = _mean_kept(fitted.acceptance_decay_per_token * length)
        counted = fitted.acceptance_tries or (UNCOUNTED_TRIES,) * len(fitted.acceptance)
        values, tries = [], []
        for position, (before, prior) in enumerate(zip(fitted.acceptance, counted, strict=True)):
            prior_tries = min(prior, PRIOR_TRIES)
            has_live = position < len(live.tries)
            now = min(live.acceptance[position] / kept, 1.0) if has_live else before
            weight = live.tries[position] if has_live else 0.0
            total = prior_tries + weight
            values.append((prior_tries * before + weight * now) / total if total else before)
            tries.append(total)
        return MeasuredAcceptance(tuple(values), tuple(tries))


def _minus(later: Sequence[int], earlier: Sequence[int]) -> tuple[int, ...]:
    before = (*earlier, *(0,) * (len(later) - len(earlier)))
    return tuple(a - b for a, b in zip(later, before, strict=True))


def _mean_kept(decayed: float) -> float:
    """Mean of exp(-x) over x from 0 to `decayed`."""
    return -math.expm1(-decayed) / decayed if decayed > 0 else 1.0
