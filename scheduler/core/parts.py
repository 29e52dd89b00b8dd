"""Whether a job whose problems are due at several instants can be promised all of them.

Theory of operation: the problems of a job that have the same deadline are a part of it, and the
planner treats parts like jobs. So they are weighed like jobs that come one after another: each
beside those before it, which keep their promises. One part that is refused refuses the job.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scheduler.core.admission import Weighed, weigh_arrived
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected
from scheduler.core.plan import Forecast
from scheduler.core.snapshot import JobView, Snapshot


def weigh_parts(
    snapshot: Snapshot, parts: Sequence[JobView], config: SchedulerConfig, *, best_effort: bool
) -> list[Weighed]:
    """`weigh` for the parts of a new job, one after another, each beside those before it.

    Args:
        parts: In the order in which they are weighed, none empty.

    Returns:
        As many as were weighed: nothing more is when one is refused, which is the last.
    """
    # The next tick will count them, and plan by that what is promised here.
    for part in parts:
        snapshot = snapshot.with_arrival(part)
    return _weigh_parts(snapshot, parts, config, best_effort=best_effort)


def _weigh_parts(
    snapshot: Snapshot, parts: Sequence[JobView], config: SchedulerConfig, *, best_effort: bool
) -> list[Weighed]:
    """`weigh_parts` for parts that are among the arrivals."""
    found: list[Weighed] = []
    for part in parts:
        weighed = weigh_arrived(snapshot, part, config, best_effort=best_effort)
        found.append(weighed)
        verdict = weighed.verdict
        if isinstance(verdict, Rejected):
            break
        taken = replace(part, plan=verdict.plan, is_promised=verdict.is_promised)
        snapshot = replace(snapshot, jobs=(*snapshot.jobs, taken))
    return found


def admitted_parts(parts: Sequence[JobView], weighed: Sequence[Weighed]) -> dict[int, Admitted]:
    """What was decided for those parts that were admitted, by number."""
    return {
        part.part: one.verdict
        for part, one in zip(parts, weighed, strict=False)
        if isinstance(one.verdict, Admitted)
    }


def verdict_of_all(
    parts: Sequence[JobView],
    weighed: Sequence[Weighed],
    kept: Sequence[tuple[JobView, Forecast]] = (),
) -> Admitted | Rejected:
    """What is told of a job whose parts were weighed: the refusal, or all of them together.

    It ends when its last part does, and its plan is that of the part that was weighed last.

    Args:
        kept: Parts that were not weighed, with what is expected of them.
    """
    last = weighed[-1].verdict
    if isinstance(last, Rejected) or len(weighed) + len(kept) == 1:
        return last
    admitted = list(admitted_parts(parts, weighed).values())
    min_accuracy = parts[0].min_accuracy
    forecasts = [verdict.forecast for verdict in admitted] + [forecast for _, forecast in kept]
    of_all = (*parts, *(part for part, _ in kept))
    numbers = [part.num_pending + part.num_in_flight for part in of_all]
    forecast = Forecast(
        finish_p50_s=max(forecast.finish_p50_s for forecast in forecasts),
        finish_p95_s=max(forecast.finish_p95_s for forecast in forecasts),
        accuracy=float(np.average([f.accuracy for f in forecasts], weights=numbers)),
        row_seconds=sum(forecast.row_seconds for forecast in forecasts),
    )
    is_promised = all(verdict.is_promised for verdict in admitted)
    is_below = min_accuracy is not None and forecast.accuracy < min_accuracy
    return Admitted(last.plan, forecast, is_below or not is_promised, is_promised)


def weigh_again(
    snapshot: Snapshot,
    parts: Sequence[JobView],
    config: SchedulerConfig,
    *,
    best_effort: bool = False,
) -> list[Weighed]:
    """`weigh_parts` for a live job on other terms, as if none of its open problems was handed out.

    What its batches have done already is not counted on: they may be lost. So a verdict errs on the
    side of refusing.

    Args:
        parts: Those of the job whose terms change, on the new ones; the snapshot has them on the
            old ones. Its other parts keep what they were promised.
    """
    keys = {part.key for part in parts}
    others = replace(
        snapshot,
        jobs=tuple(other for other in snapshot.jobs if other.key not in keys),
        batches=tuple(b for b in snapshot.batches if (b.job_id, b.part) not in keys),
    )
    anew = [as_new(part) for part in parts]
    return _weigh_parts(others, anew, config, best_effort=best_effort)


def as_new(job: JobView) -> JobView:
    """A live job as if all its open problems were pending and nothing was promised yet."""
    return replace(
        job,
        num_pending=job.num_pending + job.num_in_flight,
        num_in_flight=0,
        plan=None,
        promised_at=None,
        predicted_at=None,
        is_promised=True,
    )
