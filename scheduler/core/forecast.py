"""When a job would finish under each plan of a grid, how accurate it would be, what it costs.

Theory of operation: n problems of B branches are n * B branches over r rows. While branches wait,
all rows are busy (the *throughput phase*); then the last problems end one by one (the *drain*). In
row-tokens, with W the work of a problem (early stopping included, see `occupancy`):

    throughput = n * W / r - mean remaining tokens of a busy row
    drain      = largest remaining duration of the G problems open when nothing waits

A row found busy at a random moment has age and remaining life with the equilibrium distribution of
renewal theory, so the remaining duration of an open problem has the distribution
`duration(x) / duration(cap)`, and G = r * E[duration] / W by Little's law. The maximum of G of them
has the quantile q where that distribution is q^(1/G). When all branches fit in the rows at once,
the job lasts as long as the longest of its n problems. Tokens become seconds with the engine's time
per token at the rows that are busy: all of them in the throughput phase, their mean in the drain.

The 95th percentile adds, as a root of squares around the median: the spread of the total work, that
of the drain, the engine's residual spread (which does not average out over steps when an engine is
slower today) and what a profile learned from few problems does not know.

A plan whose branches all start at once needs no such margin: at the deadline the worker answers
from the branches that ended, and the accuracy counts only those within the cap. So it fits wherever
the time to its cap does, and *runs on* beyond it: its branches may be `RUN_ON` caps longer, as the
engine may be faster than forecast with all rows busy, and the deadline bounds what is lost. The
last problems of a queue find free rows for all of them, so they may take as long. Its caps are
longer as far as its last problem still starts in time (`offers`).

Limits: prompts count with their mean length, workers are pooled (one queue, no imbalance), and
batch boundaries cost nothing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scheduler.core.capped import Capped, capped, whole_branch
from scheduler.core.fleet import Fleet
from scheduler.core.latency import FloatArray
from scheduler.core.occupancy import Occupancy, occupancy_of
from scheduler.core.plan import Width

UNSEEN = 0.5
"""Problems besides those seen that go on until the end, where branches follow one another
(estimator of Krichevsky and Trofimov): problems tell how often that is, not branches."""
RUN_ON = 4
"""Steps of caps, about twice as long together, by which branches that the deadline cuts run on."""
Z95 = 1.6449
"""Standard normal quantile of 0.95."""


@dataclass(frozen=True, eq=False, slots=True)
class ForecastGrid:
    """Forecasts of all candidate plans; arrays are (..., widths, draft lengths, caps).

    Attributes:
        p50_s: Median seconds from the moment when the job has the rows to its last answer.
        p95_s: 95th percentile of the same, when no deadline cuts it.
        needed_s: Seconds that must be left for the plan to be chosen.
        throughput_s: Seconds of its throughput phase, after which the last problem starts.
        tokens: Tokens of a branch until which accuracy and cost count.
        cap_s: Seconds from the start of a branch until then.
        is_queued: Whether there are more branches than rows.
        accuracy: Expected fraction of problems answered right.
        row_seconds: Expected row-seconds spent.
        answered: Expected fraction of problems with a vote.
        best_drafts: Positions of the draft lengths that are fastest while all rows are busy, and
            while the last problems end; (..., widths, 2, caps).
    """

    widths: tuple[Width, ...]
    draft_lengths: tuple[int, ...]
    caps: FloatArray
    p50_s: FloatArray
    p95_s: FloatArray
    needed_s: FloatArray
    throughput_s: FloatArray
    tokens: FloatArray
    cap_s: FloatArray
    is_queued: NDArray[np.bool_]
    accuracy: FloatArray
    row_seconds: FloatArray
    answered: FloatArray
    best_drafts: NDArray[np.int64]

    def enough(self, min_answered: float) -> float:
        """Share of answered problems that is enough, where no plan answers `min_answered`."""
        return min(min_answered, float(self.answered.max()))


def forecast_plans(
    fleet: Fleet,
    *,
    num_problems: ArrayLike,
    prompt_tokens: ArrayLike,
    widths: tuple[Width, ...],
    draft_lengths: tuple[int, ...],
    caps: FloatArray,
    cut: float = math.inf,
    other_branches: ArrayLike = 0.0,
) -> ForecastGrid:
    """Forecast jobs of `num_problems` problems, at least 1, under every plan of a grid.

    Args:
        num_problems: One job or several, as the prompts and other branches: (...).
        widths: Successive ones last.
        cut: Tokens at which branches that follow one another are cut, see `cut_tokens`.
    """
    table = occupancy_of(fleet.answers, widths, cut)
    at_cap = capped(fleet.answers, widths, tuple(caps.tolist()), cut)
    number, prompt, others = (
        np.asarray(value, dtype=np.float64)[..., None, None]
        for value in (num_problems, prompt_tokens, other_branches)
    )
    width = np.array([float(width.num_branches) for width in widths])[:, None]  # (widths, 1)
    work, age, context = at_cap.work, at_cap.age, at_cap.context  # (widths, caps)
    wanted = number * width
    fits_in_cache = fleet.kv_capacity_tokens / (prompt + context)
    rows = np.maximum(np.minimum(np.minimum(fleet.rows, wanted), fits_in_cache), 1.0)
    open_problems = np.maximum(rows * at_cap.duration / work, 1.0)
    queued = wanted > rows
    throughput = np.where(queued, np.maximum(number * work / rows - age, 0.0), 0.0)
    in_turn = np.array([[width.is_successive] for width in widths])
    may_stay_open = np.array([[width.may_stay_open] for width in widths])
    unseen = UNSEEN / max(fleet.answers.num_problems_seen, 1)
    # In most jobs no second branch follows the longest for want of an answer, but in some.
    odds = {0.5: may_stay_open * unseen, 0.95: in_turn * unseen}
    drain50, drain95 = (
        _drain_tokens(
            table, at_cap, caps, quantile, number, open_problems, queued, throughput, odds[quantile]
        )
        for quantile in odds
    )
    deviation = np.sqrt(number * at_cap.work_variance) / rows

    busy = np.minimum(rows + others, fleet.rows)
    held = np.where(queued, rows * age, number * work)
    draining = np.clip(held / np.maximum(drain50, 1e-9), 1.0, rows)
    draining = np.minimum(draining + others, np.maximum(busy, draining))
    draft = np.asarray(draft_lengths)[:, None]
    # Of branches in turn each is as long as one.
    length = np.minimum(work / width, 2.0 * context)
    full_s = fleet.tpot_s(_each(busy), draft, _each(prompt + context), _each(length))
    aged = np.where(queued, age, 0.0)
    drain_context = np.where(in_turn, context, aged + 0.5 * drain50)
    drain_tokens = np.where(in_turn, length, aged + drain50)
    drained, ends = _each(prompt + drain_context), _each(drain_tokens)
    drain_s = fleet.tpot_s(_each(draining), draft, drained, ends)
    # How drafts compare depends on the context of all rows, and others' branches are not capped.
    _, whole_context = whole_branch(fleet.answers, float(fleet.max_model_len))
    best_drafts = []
    for at, own, tokens in ((busy, context, length), (draining, drain_context, drain_tokens)):
        beside = np.minimum(others / at, 1.0)
        seen = prompt + own + beside * (whole_context - own)
        tpot_s = fleet.tpot_s(_each(at), draft, _each(seen), _each(tokens))
        best_drafts.append(tpot_s.argmin(axis=-2))
    prefill_s = _each(fleet.prefill_s(prompt) * number)

    p50 = prefill_s + _each(throughput) * full_s + _each(drain50) * drain_s
    spread = (
        (_each(Z95 * deviation) * np.where(_each(queued), full_s, 0.0)) ** 2
        + (_each(drain95 - drain50) * drain_s) ** 2
        + (Z95 * fleet.run_sigma(draft) * p50) ** 2
        + (Z95 * table.relative_spread * p50) ** 2 / max(fleet.answers.num_problems_seen, 1)
    )
    p95 = p50 + np.sqrt(spread)
    at_cap_s = prefill_s + _each(caps * table.rounds) * drain_s
    return ForecastGrid(
        widths=widths,
        draft_lengths=draft_lengths,
        caps=caps,
        p50_s=p50,
        p95_s=p95,
        needed_s=np.where(_each(queued), p95, at_cap_s),
        throughput_s=_each(throughput) * full_s,
        tokens=np.broadcast_to(caps, p50.shape),
        cap_s=at_cap_s,
        is_queued=np.broadcast_to(_each(queued), p50.shape),
        accuracy=np.broadcast_to(_each(at_cap.accuracy), p50.shape),
        row_seconds=_each(number * work) * full_s + prefill_s * fleet.rows,
        answered=np.broadcast_to(_each(at_cap.answered), p50.shape),
        best_drafts=np.stack(best_drafts, axis=-2),
    )


def pessimistic(fleet: Fleet, ahead_s: float) -> float:
    """95th percentile of work ahead, which is slow together when the engine is slow."""
    return ahead_s * (1.0 + Z95 * fleet.residual_sigma)


def _each(values: NDArray[Any]) -> NDArray[Any]:
    """Values over widths and caps, the same for each draft length."""
    return values[..., None, :]


def _drain_tokens(
    table: Occupancy,
    at_cap: Capped,
    caps: FloatArray,
    quantile: float,
    number: FloatArray,
    open_problems: FloatArray,
    queued: NDArray[np.bool_],
    throughput: FloatArray,
    unseen: FloatArray,
) -> FloatArray:
    """Quantile of the tokens from the end of the throughput phase to the last answer.

    Args:
        unseen: Odds of a problem that goes on until the end; (widths, 1).
    """
    # With all problems started together, the last ends when none of n lasts longer.
    caps = caps * table.rounds
    odds = np.maximum(1.0 - quantile ** (1.0 / number) - unseen, 0.0)
    longest = np.minimum(table.tokens_when_lasts(odds), caps)
    ended = np.minimum(quantile ** (1.0 / open_problems) + unseen, 1.0)
    remaining = table.tokens_when_duration(ended * at_cap.duration)
    # A queued job too lasts as long as its longest problem.
    queued_drain = np.maximum(remaining, longest - throughput)
    return np.asarray(np.where(queued, np.minimum(queued_drain, caps), longest))
