"""Why a plan won: what the decision saw, which plans it weighed, what spoke against each.

Theory of operation: a decision is explained from the `Bounds` on which it was taken, so nothing is
forecast a second time. A job has hundreds of candidates. Shown are those on the frontier of time
against accuracy, thinned; where the time ends; and two rivals that people ask about, the best plan
with one branch and the best without a draft.
"""

import math
from dataclasses import replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from scheduler.core.basis import basis_of
from scheduler.core.bounds import Bounds
from scheduler.core.candidates import Candidates
from scheduler.core.columns import batches_table, jobs_table
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import is_to_plan, serving
from scheduler.core.decisions import Admitted
from scheduler.core.explanation import Considered, Explanation, Fate
from scheduler.core.fleet import alive_workers, fleets_by_model
from scheduler.core.line import line_of
from scheduler.core.losses import NO_LOSS, losses
from scheduler.core.outlook import forecast_of, packed
from scheduler.core.packed import Packed
from scheduler.core.plan import Forecast, Plan
from scheduler.core.planning import plan_jobs
from scheduler.core.snapshot import Snapshot

FRONTIER_SHOWN = 8
"""Points of the frontier shown; all of them would be dozens that hardly differ."""


def explain(
    bounds: Bounds,
    key: tuple[str, int],
    decided: Admitted | Packed,
    *,
    in_force: Plan | None = None,
    change_gain: float = 0.0,
) -> Explanation:
    """Explain the plan of one of the jobs that share the bounds.

    Args:
        bounds: With the upgrades that the decision made.
        key: As in `JobView`.
        decided: With the chosen plan; one that is no candidate was a fallback.
        in_force: The plan shown, where that is a stored one with nearly the same cap.
        change_gain: Accuracy that another plan must gain to replace this one.
    """
    plan, forecast = decided.plan, decided.forecast
    index = next(i for i, job in enumerate(bounds.jobs) if job.key == key)
    job, options, fleet = bounds.jobs[index], bounds.options(index), bounds.fleet
    line = line_of(bounds)
    wait = line.wait(index)
    ahead_s = wait.ahead_s
    ahead_p95_s = ahead_s * bounds.stretch
    in_time, chosen = bounds.fits(index, ahead_s), options.find(plan)
    if chosen is not None:
        in_time[chosen] |= options.kept_s[chosen] <= bounds.due_s[index] - ahead_p95_s
    # Behind other work a job begins with a narrow plan or not at all; see `placing`.
    fits = in_time & (ahead_s <= 0.0 or bool((in_time & options.is_narrow).any()))
    is_too_wide = in_time & ~fits
    limit_s = float(bounds.cut_s[index])
    return Explanation(
        basis=basis_of(fleet.informed(job.answers)),
        num_workers=len(fleet.members),
        rows=fleet.rows,
        draft_lengths=fleet.draft_lengths,
        num_problems=job.num_pending,
        mean_prompt_tokens=job.mean_prompt_tokens,
        num_jobs_ahead=int((line.order == index).argmax()),
        ahead_s=ahead_s,
        ahead_p95_s=ahead_p95_s,
        time_left_s=float(bounds.time_left_s[index]),
        reserve_s=bounds.config.reserve_s,
        num_candidates=len(fits),
        num_in_time=int(fits.sum()),
        is_in_time=chosen is not None and bool(fits[chosen]),
        plan=in_force or plan,
        forecast=forecast,
        candidates=tuple(
            _considered(
                options.plan(i),
                forecast_of(bounds, index, i, wait, limit_s if fits[i] else math.inf),
                float(options.accuracy[i]),
                float(options.needed_s[i] + ahead_p95_s),
                Fate.TOO_WIDE
                if is_too_wide[i]
                else fate_of(options, i, chosen, fits, bounds.config, change_gain),
            )
            for i in extract(options, chosen, fits, bounds.config)
        ),
    )


def explain_live(snapshot: Snapshot, job_id: str, config: SchedulerConfig) -> Explanation | None:
    """Explain a live job as its next review sees it; None when it would not be planned.

    A job is not planned without pending problems, without time, or without a worker. Of one with
    several parts the nearest that is planned is explained.
    """
    now = snapshot.now
    model = next((job.model for job in snapshot.jobs if job.id == job_id), None)
    if model is None:
        return None
    alive = alive_workers(snapshot.workers, now, config)
    fleet = fleets_by_model(alive).get(model)
    jobs = jobs_table(snapshot.jobs)
    jobs = jobs.take(is_to_plan(jobs, model, now, config))
    parts = (job for job in jobs if job.id == job_id)
    job = min(parts, key=attrgetter("deadline_at"), default=None)
    if fleet is None or job is None:
        return None
    batches = batches_table(snapshot.batches)
    batches = serving(batches.take(losses(batches, alive, now) == NO_LOSS), job.model)
    everything = replace(config, num_reviewed=len(jobs))
    arrivals = snapshot.arrivals_of(job.model)
    planned = plan_jobs(fleet, jobs, batches, now, everything, arrivals)
    if planned.bounds is None:
        return None
    index = planned.bounds.jobs.index(job)
    item = planned.item(index)
    if item is None:
        return None
    chosen = packed(planned.bounds, index, planned.line.wait(index))
    return explain(
        planned.bounds,
        job.key,
        chosen,
        in_force=item.plan,
        change_gain=0.0 if job.plan is None else config.replan_gain,
    )


def fate_of(
    options: Candidates,
    index: int,
    chosen: int | None,
    fits: NDArray[np.bool_],
    config: SchedulerConfig,
    change_gain: float = 0.0,
) -> Fate:
    """Why a candidate is in force, or is not.

    Args:
        chosen: None for a fallback: then no candidate fits.
        change_gain: As in `explain`.
    """
    if index == chosen:
        return Fate.CHOSEN
    if chosen is None or not fits[index]:
        return Fate.TOO_LATE
    gain = options.accuracy[index] - options.accuracy[chosen]
    added = options.row_seconds[index] - options.row_seconds[chosen]
    if gain > config.accuracy_tie:
        if gain < change_gain:
            return Fate.NOT_WORTH_CHANGING
        # Prices count between plans of the hull, up to two ties from the chosen one.
        least = config.branch_price * added / options.branch_cost
        return Fate.TOO_DEAR if gain - 2.0 * config.accuracy_tie < least else Fate.ROWS_NEEDED
    if gain >= -config.accuracy_tie:
        return Fate.NO_GAIN
    is_cheaper = added < 0.0
    is_earlier = options.needed_s[index] < options.needed_s[chosen]
    return Fate.LESS_ACCURATE if is_cheaper or is_earlier else Fate.DOMINATED


def extract(
    options: Candidates, chosen: int | None, fits: NDArray[np.bool_], config: SchedulerConfig
) -> list[int]:
    """Positions of the candidates worth showing, by the seconds that must be left for them."""
    line = frontier(options)
    thinned = np.unique(np.linspace(0, len(line) - 1, FRONTIER_SHOWN).round().astype(int))
    shown = {int(line[i]) for i in thinned}
    in_time = [int(i) for i in line if fits[i]]
    late = [int(i) for i in line if not fits[i]]
    rivals = (
        options.best(fits & (options.most_branches == 1), config),
        options.best(fits & (options.plans[:, 1] == 0), config),
    )
    shown.update(in_time[-1:], late[:1])
    shown.update(i for i in (chosen, *rivals) if i is not None)
    return sorted(shown, key=lambda i: (float(options.needed_s[i]), i))


def frontier(options: Candidates) -> NDArray[np.intp]:
    """Candidates that no other beats in both the seconds needed and accuracy, by the former."""
    order = np.lexsort((options.row_seconds, -options.accuracy, options.needed_s))
    accuracy = options.accuracy[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(accuracy)[:-1]])
    return np.asarray(order[accuracy > before])


def _considered(
    plan: Plan, forecast: Forecast, accuracy: float, needed_s: float, fate: Fate
) -> Considered:
    return Considered(
        num_branches=plan.num_branches,
        num_speculative_tokens=plan.num_speculative_tokens,
        max_tokens=plan.max_tokens,
        max_branches=plan.max_branches,
        finish_p50_s=forecast.finish_p50_s,
        finish_p95_s=forecast.finish_p95_s,
        needed_s=needed_s,
        accuracy=accuracy,
        row_seconds=forecast.row_seconds,
        fate=fate,
    )
